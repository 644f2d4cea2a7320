"""Hostile text round-trips; its ids depend on neither the code path nor the hash multiplier."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.hostile_texts import HOSTILE_TEXTS
from tests.support.oracles import make_tiktoken
from valyrian_jax.tokenizer import Tokenizer, batch, train_bpe
from valyrian_jax.tokenizer.encoder import Encoder

ANY_TEXT = st.text(st.characters(), max_size=40)  # lone surrogates too


@pytest.fixture(scope="module")
def large(sources: str) -> Tokenizer:
    return train_bpe([sources, HOSTILE_TEXTS["digits"](2000).decode()], 3000)


@pytest.fixture(scope="module")
def compiled(large: Tokenizer) -> Tokenizer:
    tokenizer = Tokenizer(large.tokens, large.merges, large.special)
    tokenizer.compile()
    return tokenizer


@pytest.fixture(autouse=True)
def readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let only the tokenizers that were compiled use compiled code."""
    monkeypatch.setattr(Encoder, "_can_compile", lambda *_: False)


@pytest.mark.parametrize("kind", HOSTILE_TEXTS)
def test_hostile_text_round_trips(large: Tokenizer, compiled: Tokenizer, kind: str) -> None:
    for size in (17, 4000, 40_000):
        text = HOSTILE_TEXTS[kind](size)
        ids = large.encode_bytes(text)
        assert compiled.encode_bytes(text) == ids
        assert large.decode_bytes(ids) == text
        if size < 5000 and kind != "random bytes":
            assert ids == make_tiktoken(large).encode_ordinary(text.decode())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANY_TEXT)
def test_every_str_round_trips_except_lone_surrogates(
    large: Tokenizer, compiled: Tokenizer, text: str
) -> None:
    expected = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert large.decode(large.encode(text)) == expected
    assert large.encode(text) == large.encode(expected) == compiled.encode(text)


@pytest.mark.parametrize("mix", [0, 1, 0x9E3779B97F4A7C15])
def test_merges_and_ids_do_not_depend_on_the_multiplier_even_if_all_pieces_collide(
    sources: str, mix: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = sources[:5000].encode() + b"".join(make(200) for make in HOSTILE_TEXTS.values())
    monkeypatch.setattr(batch, "_MIN_COMPILED_BYTES", 0)
    expected = batch.learn_merges(batch.count_pieces([text]), 300)
    assert batch.MIX % 2 == 1
    tokenizer = train_bpe(sources[:5000], 400)
    ids = tokenizer.encode_bytes(text)
    monkeypatch.setattr(batch, "MIX", np.uint64(mix))
    assert batch.learn_merges(batch.count_pieces([text]), 300) == expected
    tokenizer = train_bpe(sources[:5000], 400)
    tokenizer.compile()
    assert tokenizer.encode_bytes(text) == ids


def test_allowed_special_tokens_are_recognised_anywhere() -> None:
    plain = train_bpe("", 257)
    names = {"<|a|>": 256, "<|a|>b": 257, "a.*": 258}
    tokenizer = Tokenizer((*plain.tokens[:256], *(name.encode() for name in names)), (), names)
    a, b, c = (tokenizer.encode(letter)[0] for letter in "abc")
    assert tokenizer.encode("<|a|>b<|a|><|a|>c<|a|>b", names) == [257, 256, 256, c, 257]
    assert tokenizer.encode("<|a|>b" * 3, ["<|a|>"]) == [256, b] * 3
    assert tokenizer.encode("a.*aa.*", names) == [258, a, 258]
    assert tokenizer.encode("", names) == []
