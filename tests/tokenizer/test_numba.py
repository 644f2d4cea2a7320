"""The compiled code for large texts gives the pieces, merges and ids of the readable code."""

import json
import random
import re
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.oracles import HOSTILE_STRINGS, learn_reference_merges, make_tiktoken
from valyrian_jax.data.reading.documents import read_texts
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import (
    Tokenizer,
    batch,
    bpe,
    numba_bpe,
    numba_state,
    numba_trainer,
    train_bpe,
)
from valyrian_jax.tokenizer.encoder import Encoder
from valyrian_jax.tokenizer.hf_format import BYTE_ORDER
from valyrian_jax.tokenizer.numba_pretokenizer import BLOCK
from valyrian_jax.tokenizer.pretokenizer import split_text

# Few characters, so contractions, runs of spaces and class changes are often adjacent.
TANGLED = st.text(st.sampled_from("'srtvemld .A1 \n\t\u00a0é½!"), max_size=30).map(str.encode)
FRAGMENTS = [b"\xc3", b"\xa9", b"\xe2\x82", b"\xed\xa0\x80", b"\xf4\x90", b"a", b" "]
BROKEN = st.lists(st.sampled_from(FRAGMENTS)).map(b"".join)
GROUPS = st.lists(st.one_of(TANGLED, BROKEN, st.binary(max_size=30)), max_size=4)


@pytest.fixture
def compiled_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train on every text with compiled code."""
    monkeypatch.setattr(batch, "_MIN_COMPILED_BYTES", 0)


@pytest.fixture(autouse=True)
def readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let only the tokenizers that were compiled use compiled code."""
    monkeypatch.setattr(Encoder, "_can_compile", lambda *_: False)


@pytest.fixture(scope="module")
def small(valyrian: str, sources: str) -> Tokenizer:
    return train_bpe([valyrian, sources], 700)


@pytest.fixture(scope="module")
def compiled(small: Tokenizer) -> Tokenizer:
    return compile_copy(small)


def compile_copy(tokenizer: Tokenizer) -> Tokenizer:
    copy = Tokenizer(tokenizer.tokens, tokenizer.merges, tokenizer.special)
    copy.compile()
    return copy


def split_into_pieces(text: bytes) -> list[bytes]:
    return [text[a:b] for a, b in pairwise(split_text(text).tolist())]


@given(GROUPS)
def test_several_texts_give_the_pieces_of_each_text(group: list[bytes]) -> None:
    expected = Counter(piece for text in group for piece in split_into_pieces(text))
    assert batch.count_pieces(group) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "_MIN_COMPILED_BYTES", 0)
        assert batch.count_pieces(group) == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.text("ab é", min_size=1, max_size=9).map(str.encode), st.integers(1, 4)),
    st.integers(0, 12),
)
def test_compiled_code_learns_the_same_merges(counts: dict[bytes, int], merges: int) -> None:
    words = {tuple(map(BYTE_ORDER.index, piece)): n for piece, n in counts.items()}
    plain = bpe.learn(words, 256, merges)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "_MIN_COMPILED_BYTES", 0)
        assert batch.learn_merges(counts, merges) == plain


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(group=GROUPS)
def test_compiled_code_gives_the_same_ids_for_any_bytes(
    small: Tokenizer, compiled: Tokenizer, group: list[bytes]
) -> None:
    assert [compiled.encode_bytes(text) for text in group] == [
        small.encode_bytes(text) for text in group
    ]
    documents = [text.decode("utf-8", "replace") for text in group]
    for actual, expected in zip(
        compiled.encode_documents(documents), small.encode_documents(documents), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)
    for text in documents:
        np.testing.assert_array_equal(compiled.encode_array(text), small.encode(text))
        np.testing.assert_array_equal(small.encode_array(text), small.encode(text))


def test_compiled_code_gives_the_ids_of_tiktoken_for_hostile_texts(compiled: Tokenizer) -> None:
    tiktoken = make_tiktoken(compiled)
    for text in HOSTILE_STRINGS:
        assert compiled.encode(text) == tiktoken.encode_ordinary(text)


@pytest.mark.usefixtures("compiled_training")
def test_compiled_code_learns_the_merges_of_tokenizers(
    valyrian: str, sources: str, tmp_path: Path
) -> None:
    for text in (valyrian, sources):
        train_bpe(text, 3000).save(tmp_path / "tokenizer.json")
        content = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
        assert content["model"]["merges"] == learn_reference_merges([text], 3000)


@pytest.mark.usefixtures("compiled_training")
@pytest.mark.parametrize("text", ["a" * 1_000_000, "é" * 500_000, " " * 1_000_000, "ab" * 500_000])
def test_compiled_code_learns_and_encodes_long_runs(text: str) -> None:
    ours = train_bpe([text, "some other text"], 270)
    ours.compile()
    ids = ours.encode(text)
    assert len(ids) < 10_000
    assert ours.decode(ids) == text


@pytest.mark.parametrize("module", [numba_state, numba_bpe, numba_trainer])
def test_a_change_of_a_called_function_compiles_its_callers_again(module: ModuleType) -> None:
    text = Path(module.__file__ or "").read_text(encoding="utf-8")
    hashes = {
        name: sha256(Path(module.__file__ or "").with_name(f"{name}.py").read_bytes()).hexdigest()
        for name in sorted(set(re.findall(r"from valyrian_jax\.tokenizer\.(numba_\w+)", text)))
    }
    expected = ", ".join(f"{name} {digest[:12]}" for name, digest in hashes.items())
    assert expected == module.COMPILED_WITH


def test_pieces_at_the_end_of_a_block_are_those_of_the_whole_text(
    small: Tokenizer, compiled: Tokenizer
) -> None:
    fillers = ["ab " * BLOCK, "日本 " * BLOCK, "\u2003x" * BLOCK]
    ends = ["'ll", "x've y", "  \n\u2003", "\u3000\u00a0é", " 🐉🐉", "''s 't", " \x85 1"]
    documents = [
        filler[:length] + end + rest
        for filler in fillers
        for length in range(BLOCK // len(filler[:9].encode()) * 9 - 12, BLOCK + 2)
        if abs(len(filler[:length].encode()) - BLOCK + 8) < 20
        for end in ends
        for rest in ("", "z" * 40)
    ]
    assert len(documents) > 500
    for actual, expected in zip(
        compiled.encode_documents(documents), small.encode_documents(documents), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("letters", ["a", "ab", "é", "\0", "a\u0304"])
def test_pieces_of_every_length_up_to_200_are_told_apart(
    small: Tokenizer, compiled: Tokenizer, letters: str
) -> None:
    texts = [(letters * 200)[:n] for n in range(1, 201)]
    for text in [*texts, *reversed(texts)]:
        assert compiled.encode(text) == small.encode(text)


def test_compiled_code_decodes_what_the_readable_code_decodes(
    compiled: Tokenizer, sources: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [*range(compiled.vocab_size), *compiled.encode(sources), compiled.vocab_size - 1]
    expected = b"".join(compiled.tokens[i] for i in ids)
    assert compiled.decode_bytes(ids) == compiled.decode_bytes(np.array(ids, np.int32)) == expected
    assert compiled._decoder._decode_compiled([]) == b""
    for outside in (-1, compiled.vocab_size, 1 << 31, 1 << 64, 0.5):
        with pytest.raises(UserError, match=f"token id {outside} is outside the vocabulary"):
            compiled.decode_bytes([*ids, outside])  # type: ignore[list-item]
    monkeypatch.delitem(sys.modules, "valyrian_jax.tokenizer.numba_bpe")
    assert compiled.decode_bytes(iter(ids)) == expected


def test_ids_stay_right_when_the_cache_is_full(compiled: Tokenizer) -> None:
    rng = random.Random(0)
    words = [" " + "".join(rng.choices("aeiou\0xyz", k=rng.randint(2, 12))) for _ in range(400_000)]
    text = "".join(words)
    expected = make_tiktoken(compiled).encode_ordinary(text)
    for _ in range(2):
        assert compiled.encode(text) == expected


def test_threads_share_a_tokenizer(small: Tokenizer, sources: str) -> None:
    compiled = compile_copy(small)
    texts = [sources[i : i + 3000] for i in range(0, 200_000, 100)]
    expected = [compiled.encode(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(compiled.encode, texts)) == expected


def test_several_workers_give_the_ids_of_one(
    compiled: Tokenizer, sources: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = ["", *sources.split("\n\n"), ""]
    one_worker = compiled.encode_documents(documents)
    monkeypatch.setattr(batch, "_GROUP_BYTES", 1000)
    for actual, expected in zip(
        compiled.encode_documents(documents, workers=3), one_worker, strict=True
    ):
        np.testing.assert_array_equal(actual, expected)
    ids_by_document = np.split(one_worker[0], one_worker[1][:-1])
    assert [compiled.decode(ids) for ids in ids_by_document] == documents


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_file_read_in_blocks_has_the_pieces_of_the_whole_file(
    sources: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "\n ".join(["", *HOSTILE_STRINGS, sources[:2000], ""])
    (tmp_path / "text").write_text(content, encoding="utf-8", newline="")
    monkeypatch.setattr("valyrian_jax.data.reading.text_reader._CUT_CHARACTERS", size)
    blocks = list(read_texts(tmp_path / "text"))
    assert len(blocks) > 1
    assert "".join(blocks) == content
    assert Counter(p for block in blocks for p in split_into_pieces(block.encode())) == Counter(
        split_into_pieces(content.encode())
    )
