"""The overlap of the two parts: sentences, lines, documents, or windows where a text has none."""

import random

import pytest

from valyrian_jax.data import overlap
from valyrian_jax.data.overlap import find_sentences, measure_overlap
from valyrian_jax.data.reading.separators import find_documents
from valyrian_jax.data.split import DataSplit, split_documents


def random_digits(count: int, seed: int = 0) -> str:
    return "".join(random.Random(seed).choices("0123456789", k=count))


def test_no_held_out_sentence_of_the_shipped_corpus_is_trained_on(valyrian: str) -> None:
    split = split_documents(find_documents(valyrian), 0.1)
    assert measure_overlap(split) == (0, "sentences")
    assert len(split.held_out) > 100
    sentences = find_sentences(split.train + split.held_out)
    assert len(set(sentences)) == len(sentences)


def test_overlap_is_the_share_of_repeated_sentences() -> None:
    split = DataSplit(["A b. C d!", "E f?\nG h"], ["C d! X y.", "G h Z.\nE f?"])
    assert measure_overlap(split) == (0.5, "sentences")


def test_sentences_of_chinese_end_without_a_space() -> None:
    split = DataSplit(["你好吗？我很好。"], ["我很好。谢谢你！"])
    assert measure_overlap(split) == (0.5, "sentences")


def test_lines_or_documents_are_compared_where_there_are_no_sentences() -> None:
    assert measure_overlap(DataSplit(["x = 1\ny = 2"], ["y = 2\nz = 3"])) == (0.5, "lines")
    documents = DataSplit(["one", "two"], ["two", "three", "one", "four"])
    assert measure_overlap(documents) == (0.5, "documents")


@pytest.mark.parametrize("block", [40, 1 << 22])
def test_text_without_white_space_is_compared_in_windows(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(overlap, "_BLOCK", block)
    train, new = random_digits(3200), random_digits(320, seed=1)
    repeated = train[1001:1321]  # at an offset that is no multiple of the window
    assert measure_overlap(DataSplit([train], [new])) == (0, "32-byte windows")
    assert measure_overlap(DataSplit([train], [new + repeated])) == (0.5, "32-byte windows")
    ends = DataSplit([train[:31], train], [train[-32:] + train[:32] + new[:32]])
    assert measure_overlap(ends) == (pytest.approx(2 / 3), "32-byte windows")


def test_windows_are_used_where_documents_are_long_and_find_a_text_pasted_twice() -> None:
    split = split_documents([random_digits(5000, seed) for seed in range(10)] * 2, 0.2)
    assert split.cut == ""
    assert measure_overlap(split) == (1, "32-byte windows")
