"""Rows: texts of different lengths in one array, scored in batches of similar length."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from valyrian_jax.tokenizer import Tokenizer

_BATCH_TOKENS = 1 << 12  # whose logits are in memory at a time
_LENGTH_MULTIPLE = 16  # of the lengths of batches, so that few programs are compiled


class Rows(NamedTuple):
    """Rows of tokens, and which of their targets count.

    Attributes:
        tokens: Token ids [N, T + 1].
        counted: Which of the T targets of each row count [N, T].
    """

    tokens: npt.NDArray[np.int32]
    counted: npt.NDArray[np.bool_]


ScoreBatch = Callable[[npt.NDArray[np.int32], npt.NDArray[np.bool_]], Any]
"""A function from tokens [B, W + 1] and which targets count [B, W] to scores [..., B]."""


def encode_rows(tokenizer: Tokenizer, texts: Sequence[str]) -> Rows:
    """Return N texts after <|endoftext|> as rows, as wide as the longest."""
    encoded = [[tokenizer.end_of_text, *tokenizer.encode(text)] for text in texts]
    width = max(map(len, encoded), default=2)
    tokens = np.zeros((len(encoded), width), np.int32)
    for row, ids in zip(tokens, encoded, strict=True):
        row[: len(ids)] = ids
    lengths = np.array([len(ids) - 1 for ids in encoded])
    return Rows(tokens, np.arange(width - 1) < lengths.reshape(-1, 1))


def score_rows(score_batch: ScoreBatch, rows: Rows) -> npt.NDArray[np.float64]:
    """Return the scores [..., N] of N rows.

    Rows of similar length are scored together, without the columns in which none counts.
    """
    count, length = rows.counted.shape
    ends = length - rows.counted[:, ::-1].argmax(axis=1)  # after the last target that counts
    widths = np.minimum(-(-ends // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE, length)
    order, scores = np.argsort(widths, kind="stable"), list[npt.NDArray[np.float64]]()
    for width in np.unique(widths):
        group = order[widths[order] == width]
        batches = np.array_split(group, -(-len(group) // max(_BATCH_TOKENS // width, 1)))
        for batch in batches:
            indices = np.resize(batch, len(batches[0]))  # Repeats a row: all have one size.
            tokens, counted = rows.tokens[indices, : width + 1], rows.counted[indices, :width]
            scores.append(np.asarray(score_batch(tokens, counted), np.float64)[..., : len(batch)])
    return np.concatenate(scores, axis=-1)[..., np.argsort(order)] if count else np.zeros(0)
