"""The code for large texts against the readable one for small texts: the same pieces, merges and ids."""

import json
from collections import Counter
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.oracles import HOSTILE, as_tiktoken, trained_by_tokenizers
from valyrian_jax.data.text import read_blocks
from valyrian_jax.tokenizer import Tokenizer, batch, numba_pretokenizer, train_bpe
from valyrian_jax.tokenizer.pretokenizer import class_table, split_text

# Few characters, so that contractions, runs of spaces and class changes meet often; then bytes of broken UTF-8.
TANGLED = st.text(st.sampled_from("'srtvemld .A1 \n\t\u00a0é½!"), max_size=30).map(str.encode)
BROKEN_PARTS = [b"\xc3", b"\xa9", b"\xe2\x82", b"\xed\xa0\x80", b"\xf4\x90", b"a", b" "]
BROKEN = st.lists(st.sampled_from(BROKEN_PARTS)).map(b"".join)
GROUPS = st.lists(st.one_of(TANGLED, BROKEN, st.binary(max_size=30)), max_size=4)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text counts as large."""
    monkeypatch.setattr(batch, "_COMPILED_FROM", 0)


@pytest.fixture(scope="module")
def small(valyrian: str, sources: str) -> Tokenizer:
    return train_bpe([valyrian, sources], 700)


def pieces(text: bytes) -> list[bytes]:
    return [text[a:b] for a, b in pairwise(split_text(text).tolist())]


@given(GROUPS)
def test_pieces_of_several_texts_are_those_of_each(group: list[bytes]) -> None:
    expected = Counter(piece for text in group for piece in pieces(text))
    assert batch.count(group) == expected
    whole = b"".join(group)
    ends = np.array([*accumulate(map(len, group))], np.int64)
    found = numba_pretokenizer.count(np.frombuffer(whole, np.uint8), ends, class_table(), batch.MIX)
    assert {whole[a:b]: n for a, b, n in zip(*found, strict=True)} == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.text("ab é", min_size=1, max_size=9).map(str.encode), st.integers(1, 4)),
    st.integers(0, 12),
)
def test_merges_are_the_same(counts: dict[bytes, int], merges: int) -> None:
    plain = batch.learn(counts, merges)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "_COMPILED_FROM", 0)
        assert batch.learn(counts, merges) == plain


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(group=GROUPS)
def test_ids_of_any_bytes_are_the_same(small: Tokenizer, group: list[bytes]) -> None:
    plain = [small.encode_bytes(text) for text in group]
    documents = [text.decode("utf-8", "replace") for text in group]
    ids, ends = small.encode_documents(documents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "_COMPILED_FROM", 0)
        assert [small.encode_bytes(text) for text in group] == plain
        for found, expected in zip(small.encode_documents(documents), (ids, ends), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("compiled")
def test_hostile_texts_come_out_as_from_tiktoken(small: Tokenizer) -> None:
    tiktoken = as_tiktoken(small)
    for text in HOSTILE:
        assert small.encode(text) == tiktoken.encode_ordinary(text)


@pytest.mark.usefixtures("compiled")
def test_a_large_vocabulary_has_the_merges_of_tokenizers(
    valyrian: str, sources: str, tmp_path: Path
) -> None:
    for text in (valyrian, sources):
        train_bpe(text, 3000).save(tmp_path / "tokenizer.json")
        content = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
        assert content["model"]["merges"] == trained_by_tokenizers([text], 3000)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("text", ["a" * 1_000_000, "é" * 500_000, " " * 1_000_000, "ab" * 500_000])
def test_a_long_run_is_learnt_and_encoded(text: str) -> None:
    ours = train_bpe([text, "some other text"], 270)
    ids = ours.encode(text)
    assert len(ids) < 10_000
    assert ours.decode(ids) == text


def test_several_workers_give_the_ids_of_one(
    small: Tokenizer, sources: str, monkeypatch: pytest.MonkeyPatch, compiled: None
) -> None:
    documents = ["", *sources.split("\n\n"), ""]
    alone = small.encode_documents(documents)
    monkeypatch.setattr(batch, "_BATCH", 1000)
    for found, expected in zip(small.encode_documents(documents, workers=3), alone, strict=True):
        np.testing.assert_array_equal(found, expected)
    cut = np.split(alone[0], alone[1][:-1])
    assert [small.decode(part) for part in cut] == documents


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_file_read_in_blocks_is_learnt_as_a_whole(
    sources: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "\n ".join(["", *HOSTILE, sources[:2000], ""])
    (tmp_path / "text").write_text(content, encoding="utf-8", newline="")
    monkeypatch.setattr("valyrian_jax.data.text._BLOCK", size)
    blocks = list(read_blocks(tmp_path / "text"))
    assert len(blocks) > 1
    assert "".join(blocks) == content
    assert Counter(p for block in blocks for p in pieces(block.encode())) == Counter(
        pieces(content.encode())
    )
