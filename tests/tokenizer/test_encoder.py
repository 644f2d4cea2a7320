"""The compiled code is loaded when it pays, and the ids do not depend on when."""

import pickle

import pytest

from valyrian_jax.tokenizer import Tokenizer, encoder, train_bpe


@pytest.fixture
def tokenizer(valyrian: str, monkeypatch: pytest.MonkeyPatch) -> Tokenizer:
    monkeypatch.delitem(encoder.sys.modules, "valyrian_jax.tokenizer.numba_bpe", raising=False)
    return train_bpe(valyrian[:50_000], 300)


def is_compiled(tokenizer: Tokenizer) -> bool:
    return tokenizer._encoder._compiled is not None


def test_compiled_code_is_loaded_when_a_second_is_spent(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = tokenizer.encode("Valar morghūlis.")
    assert not is_compiled(tokenizer)
    monkeypatch.setattr(encoder, "_READABLE_SECONDS", tokenizer._encoder._seconds / 2)
    assert tokenizer.encode("Valar morghūlis.") == ids
    assert is_compiled(tokenizer)


def test_a_long_text_is_encoded_by_compiled_code_at_once(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "_READABLE_SPEED", 1000)
    tokenizer.encode("a" * 900)
    assert not is_compiled(tokenizer)
    assert tokenizer.decode(tokenizer.encode("a" * 1100)) == "a" * 1100
    assert is_compiled(tokenizer)


def test_without_numba_every_text_is_encoded(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "_READABLE_SECONDS", 0)
    monkeypatch.setattr(encoder.importlib.util, "find_spec", lambda _: None)
    assert tokenizer.decode(tokenizer.encode("Valar morghūlis.")) == "Valar morghūlis."
    assert not is_compiled(tokenizer)


def test_a_tokenizer_that_has_encoded_can_be_pickled(tokenizer: Tokenizer) -> None:
    tokenizer.compile()
    ids = tokenizer.encode("Valar morghūlis.")
    content = pickle.dumps(tokenizer)
    assert len(content) < 100_000
    assert pickle.loads(content) == tokenizer
    assert pickle.loads(content).encode("Valar morghūlis.") == ids


def test_ids_beyond_the_merges_are_shared_integers_too(tokenizer: Tokenizer) -> None:
    tokens = (b"<|endoftext|>", *tokenizer.tokens[:-1])
    merges = tuple((a + 1, b + 1) for a, b in tokenizer.merges)
    shifted = Tokenizer(tokens, merges, {"<|endoftext|>": 0})
    text = "Valar morghūlis. " * 100
    expected = [i + 1 for i in tokenizer.encode(text)]
    assert shifted.encode(text) == expected
    shifted.compile()
    assert shifted.encode(text) == expected


def test_a_vocabulary_without_merges_encodes_bytes() -> None:
    tokenizer = train_bpe("", 257)
    ids = tokenizer.encode("Valar")
    tokenizer.compile()
    assert tokenizer.encode("Valar") == ids == [tokenizer.byte_ids[b] for b in b"Valar"]
    assert tokenizer.encode("") == []
