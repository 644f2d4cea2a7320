"""Text: split, tokens, batches and windows."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from valyrian_jax.data import text
from valyrian_jax.data.reading.separators import find_documents
from valyrian_jax.data.windows import make_eval_windows, sample_batch
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import train_bpe

PARAGRAPHS = [f"Paragraph {i} says this.\nAnd that, {i}." for i in range(100)]


@pytest.mark.parametrize("blank", ["\n\n", "\r\n\r\n", "\n \t\n\n"])
def test_blank_lines_of_any_kind_separate_documents(blank: str) -> None:
    paragraphs = [p.replace("\n", " ") for p in PARAGRAPHS]
    assert find_documents(blank.join(paragraphs)) == paragraphs
    assert find_documents("\n" * 400 + blank.join(paragraphs) + blank) == paragraphs


def test_tokens_are_documents_between_end_of_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = train_bpe(PARAGRAPHS, 300)
    tokens = text.encode_documents(PARAGRAPHS, tokenizer, tmp_path / "tokens")
    assert tokens.dtype == np.uint16
    ends = np.flatnonzero(tokens == tokenizer.end_of_text)
    assert len(ends) == 101
    decoded = [tokenizer.decode(tokens[a + 1 : b].tolist()) for a, b in pairwise(ends)]
    assert decoded == PARAGRAPHS

    monkeypatch.setattr(text, "_LARGE_TEXT", 10)
    mapped = text.encode_documents(PARAGRAPHS, tokenizer, tmp_path / "tokens")
    assert isinstance(mapped, np.memmap)
    text.encode_documents(PARAGRAPHS[:3], tokenizer, tmp_path / "tokens")
    assert not list((tmp_path / "tokens").iterdir())  # a killed process would leave no file
    np.testing.assert_array_equal(mapped, tokens)
    np.testing.assert_array_equal(
        sample_batch(mapped, 0, 3, 2, 8), sample_batch(tokens, 0, 3, 2, 8)
    )


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    tokens = np.arange(5000, dtype=np.uint16)
    first = sample_batch(tokens, 1, 2, 8, 16)
    np.testing.assert_array_equal(first, sample_batch(tokens, 1, 2, 8, 16))
    assert first.shape == (8, 17)
    assert (np.diff(first, axis=1) == 1).all()  # consecutive tokens
    for other in (sample_batch(tokens, 2, 2, 8, 16), sample_batch(tokens, 1, 3, 8, 16)):
        assert not np.array_equal(first, other)


def test_the_first_batch_is_the_same_in_every_version() -> None:
    # A stored value of integers only: a change here changes every run.
    assert sample_batch(np.arange(60000, dtype=np.uint16), 0, 0, 4, 1)[:, 0].tolist() == [
        48283,
        17300,
        29268,
        34664,
    ]


def test_batches_start_at_every_position_equally_often() -> None:
    tokens = np.arange(40, dtype=np.uint16)
    starts = np.concatenate([sample_batch(tokens, 0, step, 64, 8)[:, 0] for step in range(500)])
    counts = np.bincount(starts)
    assert len(counts) == 32
    assert abs(counts / counts.mean() - 1).max() < 0.12


@given(st.integers(2, 400), st.integers(1, 5), st.integers(2, 20))
def test_windows_count_every_token_but_the_first_once(size: int, rows: int, length: int) -> None:
    tokens = np.arange(1, size + 1, dtype=np.uint16)
    windows = make_eval_windows(tokens, rows, length)
    assert windows.tokens.shape[1:] == (rows, length + 1)
    targets = windows.tokens[:, :, 1:][windows.counted]
    np.testing.assert_array_equal(targets, tokens[1:])
    inputs = windows.tokens[:, :, :-1][windows.counted]
    np.testing.assert_array_equal(inputs, tokens[:-1])


def test_bytes_include_the_blank_line_after_each_document() -> None:
    assert text.count_bytes(["ab", "ñ"]) == 2 + 2 + 2 + 2


def test_a_held_out_part_without_a_target_is_refused() -> None:
    with pytest.raises(UserError, match="held-out part is empty"):
        make_eval_windows(np.zeros(1, np.uint16), 1, 4)


def test_rows_of_a_batch_can_be_made_separately() -> None:
    tokens = np.arange(1000, dtype=np.uint16)
    whole = sample_batch(tokens, 0, 3, 8, 16)
    rows = [sample_batch(tokens, 0, 3, 8, 16, slice(first, first + 2)) for first in range(0, 8, 2)]
    np.testing.assert_array_equal(np.concatenate(rows), whole)
