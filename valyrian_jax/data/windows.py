"""Token windows: random ones to train on, and consecutive ones that cover every held-out token once."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from valyrian_jax.data.text import Tokens
from valyrian_jax.errors import UserError


class EvalWindows(NamedTuple):
    """Consecutive windows over the whole of a token array, in batches."""

    tokens: npt.NDArray[np.int32]  # (N, B, T + 1)
    counted: npt.NDArray[np.bool_]  # (N, B, T): every token but the first is counted once


def sample_batch(
    tokens: Tokens, seed: int, step: int, rows: int, length: int, part: slice = slice(None)
) -> npt.NDArray[np.int32]:
    """The batch of one step: windows at independent uniform places.

    Args:
        tokens: the training part.
        seed: of the run.
        step: of the run.
        rows: B.
        length: T; a window holds T + 1 tokens, so that each of T inputs has its target.
        part: the rows to make; other rows are those of other devices.

    Returns:
        (B, T + 1) token ids, or fewer rows.

    Raises:
        UserError: the text has fewer than T + 1 tokens.
    """
    places = len(tokens) - length
    if places < 1:
        raise UserError(
            f"the training part is too short: {len(tokens)} tokens, but model.n_positions = {length} needs "
            f"at least {length + 1}; give more text or a shorter context"
        )
    # Philox is a counter-based generator (Salmon et al. 2011): each step has its own counter, so its own numbers.
    raw = np.random.Philox(key=seed, counter=[0, 0, 0, step]).random_raw(rows)
    starts = (np.asarray(raw, np.uint64)[part] % np.uint64(places)).astype(np.int64)
    return tokens[starts[:, None] + np.arange(length + 1)].astype(np.int32)


def make_eval_windows(tokens: Tokens, rows: int, length: int) -> EvalWindows:
    """Cut a whole token array into windows that overlap by half, the same every time, and fill the last batch up.

    A window counts only the targets that the window before it did not have, so that (the first window aside) a counted
    target has at least T / 2 tokens before it, as it has when text is generated.

    Args:
        tokens: the held-out part, at least two tokens.
        rows: B.
        length: T.

    Returns:
        Batches in which every token but the first is a counted target exactly once.

    Raises:
        UserError: there is no target.
    """
    targets = len(tokens) - 1
    if targets < 1:
        raise UserError("the held-out part is empty; give more text or a larger data.held_out")
    stride = max(length // 2, 1)
    used = math.ceil(max(targets - length, 0) / stride) + 1  # windows until the last target
    N = math.ceil(used / rows)
    starts = np.arange(N * rows) * stride
    padded = np.zeros(starts[-1] + length + 1, np.int32)
    padded[: len(tokens)] = tokens
    places = starts[:, None] + np.arange(length)  # of the input before each target
    is_new = (starts[:, None] == 0) | (np.arange(length) >= length - stride)
    grid = padded[starts[:, None] + np.arange(length + 1)].reshape(N, rows, length + 1)
    return EvalWindows(grid, (is_new & (places < targets)).reshape(N, rows, length))
