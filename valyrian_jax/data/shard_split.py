"""The split of shards: the held-out part begins at a document near the end."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from valyrian_jax.data.shards import ShardSet, open_shards, read_tokens
from valyrian_jax.errors import UserError

MAX_HELD_OUT = 50_000_000  # tokens; evaluation holds several copies of them in memory
_BLOCK = 1 << 20  # tokens searched at a time


class ShardSplit(NamedTuple):
    """Shards, and where their held-out part begins: the <|endoftext|> before its first document."""

    shards: ShardSet
    cut: int

    @property
    def training_tokens(self) -> int:
        """Number of tokens of the training part, with the <|endoftext|> after its last document."""
        return self.cut + 1

    @property
    def held_out_tokens(self) -> int:
        """Number of tokens of the held-out part."""
        return self.shards.index.tokens - self.cut


def split_shards(directory: Path, held_out: float) -> ShardSplit:
    """Open shards and hold out their end.

    The held-out part begins at the first document that begins in the last `held_out` of the tokens.
    If none begins there, the last document is held out.

    Raises:
        UserError: The shards are damaged or unfinished, hold only one document, or the held-out
            part is too large.
    """
    shards = open_shards(directory)
    tokens = shards.index.tokens
    if tokens * held_out > MAX_HELD_OUT:
        raise UserError(
            f"data.held_out = {held_out} of the {tokens:,} tokens in {directory} is more than an "
            f"evaluation can hold, {MAX_HELD_OUT:,}; set --data.held_out "
            f"{_round_down(MAX_HELD_OUT / tokens)}"
        )
    start = math.ceil(tokens * (1 - held_out))
    cut = _find_next_document(shards, start) or _find_last_document(shards, min(start, tokens - 1))
    if not cut:
        raise UserError(
            f"the shards in {directory} hold one document, expected two or more: one is held out; "
            "encode more text"
        )
    if tokens - cut > MAX_HELD_OUT:
        raise UserError(
            f"the last document in {directory} has {tokens - cut:,} tokens, more than an "
            f"evaluation can hold, {MAX_HELD_OUT:,}; encode the text with a shorter document at "
            "its end"
        )
    return ShardSplit(shards, cut)


def _round_down(share: float) -> float:
    """Round to two digits, never up."""
    unit = 10.0 ** (math.floor(math.log10(share)) - 1)
    return float(f"{math.floor(share / unit) * unit:.2g}")


def _find_next_document(shards: ShardSet, start: int) -> int:
    """Return the first position from `start` on where a document begins; 0 if there is none."""
    last = shards.index.tokens - 1  # <|endoftext|> too, but no document begins there
    for first in range(start, last, _BLOCK):
        ends = _find_ends(shards, first, min(first + _BLOCK, last))
        if len(ends):
            return first + int(ends[0])
    return 0


def _find_last_document(shards: ShardSet, stop: int) -> int:
    """Return the last position before `stop` where a document begins; 0 if there is none."""
    for last in range(stop, 0, -_BLOCK):
        first = max(last - _BLOCK, 0)
        ends = _find_ends(shards, first, last)
        if len(ends):
            return first + int(ends[-1])
    return 0


def _find_ends(shards: ShardSet, start: int, stop: int) -> npt.NDArray[np.intp]:
    """Return the offsets of <|endoftext|> between two positions."""
    return np.flatnonzero(read_tokens(shards, start, stop - start) == shards.tokenizer.end_of_text)
