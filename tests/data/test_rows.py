"""Rows of texts are scored in batches of similar length, and their order stays."""

import numpy as np
import numpy.typing as npt

from valyrian_jax.data.rows import Rows, encode_rows, score_rows
from valyrian_jax.tokenizer import train_bpe


def sum_targets(tokens: npt.NDArray[np.int32], counted: npt.NDArray[np.bool_]) -> list[list[float]]:
    totals = np.where(counted, tokens[:, 1:], 0).sum(axis=1)
    return [totals.tolist(), (-totals).tolist()]


def test_scores_are_those_of_the_rows_in_their_order() -> None:
    rng = np.random.default_rng(0)
    ends = rng.integers(1, 91, size=700)
    rows = Rows(rng.integers(1, 500, (700, 91)).astype(np.int32), np.arange(90) < ends[:, None])
    rows.counted[:50, :1] = False  # Context, whose targets do not count.
    expected, negated = sum_targets(*rows)
    shapes = []

    def score_batch(tokens: npt.NDArray[np.int32], counted: npt.NDArray[np.bool_]) -> object:
        shapes.append(counted.shape)
        return sum_targets(tokens, counted)

    np.testing.assert_array_equal(score_rows(score_batch, rows), [expected, negated])
    assert {width for _, width in shapes} == {16, 32, 48, 64, 80, 90}
    assert max(count * width for count, width in shapes) <= 4096
    assert sum(count * width for count, width in shapes) < 0.75 * rows.counted.size
    assert len(set(shapes)) == 6  # A compiled program for each.


def test_texts_become_rows_after_an_end_of_text() -> None:
    tokenizer = train_bpe("abc", 257)
    tokens, counted = encode_rows(tokenizer, ["ab", "", "abc"])
    end = tokenizer.end_of_text
    np.testing.assert_array_equal(tokens[:, 0], end)
    assert tokenizer.decode(tokens[2, 1:].tolist()) == "abc"
    np.testing.assert_array_equal(counted, [[1, 1, 0], [0, 0, 0], [1, 1, 1]])
    assert score_rows(sum_targets, encode_rows(tokenizer, [])).shape == (0,)
