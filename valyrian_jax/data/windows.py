"""Token windows: random ones for training, consecutive ones that cover every held-out token once.

A batch is a function of the tokens, the seed and the step. There is no cursor, so a resumed run
sees the same batches.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from valyrian_jax.data.text import Tokens
from valyrian_jax.errors import UserError


class EvalWindows(NamedTuple):
    """Consecutive windows over a whole token array, in N batches of B windows."""

    tokens: npt.NDArray[np.int32]  # (N, B, T + 1)
    counted: npt.NDArray[np.bool_]  # (N, B, T): each token but the first, once


class EvalSet(NamedTuple):
    """The held-out windows of an evaluation, and their bytes of text for bits per byte."""

    windows: EvalWindows
    text_bytes: int


def sample_batch(
    tokens: Tokens, seed: int, step: int, batch_size: int, length: int, rows: slice = slice(None)
) -> npt.NDArray[np.int32]:
    """Return the training batch of one step: windows at independent, uniformly random positions.

    Args:
        tokens: Training part, at least T + 1 tokens.
        seed: Seed of the run.
        step: Step of the run.
        batch_size: B.
        length: T; a window holds T + 1 tokens, so that each of T inputs has its target.
        rows: Rows to make; the other rows belong to other devices.

    Returns:
        int32 [B, T + 1], or fewer rows.
    """
    positions = len(tokens) - length
    # Philox is a counter-based generator (Salmon et al. 2011), and each step has its own counter.
    raw = np.random.Philox(key=seed, counter=[0, 0, 0, step]).random_raw(batch_size)
    starts = (np.asarray(raw, np.uint64)[rows] % np.uint64(positions)).astype(np.int64)
    return tokens[starts[:, None] + np.arange(length + 1)].astype(np.int32)


def make_eval_windows(tokens: Tokens, batch_size: int, length: int) -> EvalWindows:
    """Cut a whole token array into windows that overlap by half; the last batch is padded.

    A window counts only the targets that the window before it does not have, so every token but the
    first is counted once. Every counted target after the first window has at least T / 2 tokens of
    context, as in generation.
    """
    windows = _count_eval_windows(tokens, length)
    return _cut_windows(tokens, 0, windows, batch_size, length)


def iterate_eval_windows(
    tokens: Tokens, batch_size: int, length: int, batches: int
) -> Iterator[EvalWindows]:
    """Yield the windows of `make_eval_windows` in groups of at most `batches` batches."""
    windows, step = _count_eval_windows(tokens, length), batch_size * batches
    for first in range(0, windows, step):
        yield _cut_windows(tokens, first, min(step, windows - first), batch_size, length)


def _count_eval_windows(tokens: Tokens, length: int) -> int:
    targets = len(tokens) - 1
    if targets < 1:
        raise UserError("the held-out part is empty; use more text or a larger data.held_out")
    return math.ceil(max(targets - length, 0) / _stride(length)) + 1


def _cut_windows(
    tokens: Tokens, first: int, windows: int, batch_size: int, length: int
) -> EvalWindows:
    """Cut `windows` windows from number `first` on into batches; the last batch is padded."""
    stride = _stride(length)
    N = math.ceil(windows / batch_size)
    starts = (first + np.arange(N * batch_size)) * stride
    padded = np.zeros(starts[-1] - starts[0] + length + 1, np.int32)
    part = tokens[starts[0] : starts[0] + len(padded)]
    padded[: len(part)] = part
    inputs = starts[:, None] + np.arange(length)  # position of the input before each target
    is_new = (starts[:, None] == 0) | (np.arange(length) >= length - stride)
    grid = padded[starts[:, None] - starts[0] + np.arange(length + 1)]
    counted = is_new & (inputs < len(tokens) - 1)
    return EvalWindows(
        grid.reshape(N, batch_size, length + 1), counted.reshape(N, batch_size, length)
    )


def _stride(length: int) -> int:
    """Return the distance between two windows of evaluation."""
    return max(length // 2, 1)
