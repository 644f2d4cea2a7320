"""The compiled code for large texts gives the pieces, merges and ids of the readable code."""

import json
from collections import Counter
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.oracles import HOSTILE_STRINGS, learn_reference_merges, make_tiktoken
from valyrian_jax.data.reading.documents import read_texts
from valyrian_jax.tokenizer import Tokenizer, batch, numba_pretokenizer, train_bpe
from valyrian_jax.tokenizer.pretokenizer import load_class_table, split_text

# Few characters, so contractions, runs of spaces and class changes are often adjacent.
TANGLED = st.text(st.sampled_from("'srtvemld .A1 \n\t\u00a0é½!"), max_size=30).map(str.encode)
FRAGMENTS = [b"\xc3", b"\xa9", b"\xe2\x82", b"\xed\xa0\x80", b"\xf4\x90", b"a", b" "]
BROKEN = st.lists(st.sampled_from(FRAGMENTS)).map(b"".join)
GROUPS = st.lists(st.one_of(TANGLED, BROKEN, st.binary(max_size=30)), max_size=4)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send every text through the compiled code."""
    monkeypatch.setattr(batch, "_MIN_COMPILED_BYTES", 0)


@pytest.fixture(scope="module")
def small(valyrian: str, sources: str) -> Tokenizer:
    return train_bpe([valyrian, sources], 700)


def split_into_pieces(text: bytes) -> list[bytes]:
    return [text[a:b] for a, b in pairwise(split_text(text).tolist())]


@given(GROUPS)
def test_several_texts_give_the_pieces_of_each_text(group: list[bytes]) -> None:
    expected = Counter(piece for text in group for piece in split_into_pieces(text))
    assert batch.count_pieces(group) == expected
    data = b"".join(group)
    ends = np.array([*accumulate(map(len, group))], np.int64)
    columns = numba_pretokenizer.count_pieces(
        np.frombuffer(data, np.uint8), ends, load_class_table(), batch.MIX
    )
    assert {data[a:b]: n for a, b, n in zip(*columns, strict=True)} == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.text("ab é", min_size=1, max_size=9).map(str.encode), st.integers(1, 4)),
    st.integers(0, 12),
)
def test_compiled_code_learns_the_same_merges(counts: dict[bytes, int], merges: int) -> None:
    plain = batch.learn_merges(counts, merges)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "_MIN_COMPILED_BYTES", 0)
        assert batch.learn_merges(counts, merges) == plain


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(group=GROUPS)
def test_compiled_code_gives_the_same_ids_for_any_bytes(
    small: Tokenizer, group: list[bytes]
) -> None:
    plain = [small.encode_bytes(text) for text in group]
    documents = [text.decode("utf-8", "replace") for text in group]
    ids, ends = small.encode_documents(documents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "_MIN_COMPILED_BYTES", 0)
        assert [small.encode_bytes(text) for text in group] == plain
        for actual, expected in zip(small.encode_documents(documents), (ids, ends), strict=True):
            np.testing.assert_array_equal(actual, expected)


@pytest.mark.usefixtures("compiled")
def test_compiled_code_gives_the_ids_of_tiktoken_for_hostile_texts(small: Tokenizer) -> None:
    tiktoken = make_tiktoken(small)
    for text in HOSTILE_STRINGS:
        assert small.encode(text) == tiktoken.encode_ordinary(text)


@pytest.mark.usefixtures("compiled")
def test_compiled_code_learns_the_merges_of_tokenizers(
    valyrian: str, sources: str, tmp_path: Path
) -> None:
    for text in (valyrian, sources):
        train_bpe(text, 3000).save(tmp_path / "tokenizer.json")
        content = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
        assert content["model"]["merges"] == learn_reference_merges([text], 3000)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("text", ["a" * 1_000_000, "é" * 500_000, " " * 1_000_000, "ab" * 500_000])
def test_compiled_code_learns_and_encodes_long_runs(text: str) -> None:
    ours = train_bpe([text, "some other text"], 270)
    ids = ours.encode(text)
    assert len(ids) < 10_000
    assert ours.decode(ids) == text


def test_several_workers_give_the_ids_of_one(
    small: Tokenizer, sources: str, monkeypatch: pytest.MonkeyPatch, compiled: None
) -> None:
    documents = ["", *sources.split("\n\n"), ""]
    one_worker = small.encode_documents(documents)
    monkeypatch.setattr(batch, "_GROUP_BYTES", 1000)
    for actual, expected in zip(
        small.encode_documents(documents, workers=3), one_worker, strict=True
    ):
        np.testing.assert_array_equal(actual, expected)
    ids_by_document = np.split(one_worker[0], one_worker[1][:-1])
    assert [small.decode(ids) for ids in ids_by_document] == documents


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
