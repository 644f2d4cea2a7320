"""Where the held-out part of shards begins: at a document, near the end."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from valyrian_jax.data import shards
from valyrian_jax.data.shards import ShardSet
from valyrian_jax.errors import UserError

MAX_HELD_OUT = (
    50_000_000  # tokens: evaluation holds all of them in memory, several times, and computes on all
)
_BLOCK = 1 << 20  # tokens searched at a time


class ShardSplit(NamedTuple):
    """Shards, and the position where their held-out part begins: the <|endoftext|> before its first document."""

    shards: ShardSet
    cut: int

    @property
    def training_tokens(self) -> int:
        """Number of tokens of the training part; as in `encode_documents`, <|endoftext|> ends its last document."""
        return self.cut + 1

    @property
    def held_out_tokens(self) -> int:
        """Number of tokens of the held-out part."""
        return self.shards.index.tokens - self.cut


def split_shards(directory: Path, held_out: float) -> ShardSplit:
    """Open shards and hold out their end, from the first document that begins in the last `held_out` of the tokens.

    If no document begins there, the last document is held out.

    Raises:
        UserError: The shards are damaged or unfinished, hold one document only, or too much would be held out.
    """
    found = shards.open_shards(directory)
    tokens = found.index.tokens
    if tokens * held_out > MAX_HELD_OUT:
        raise UserError(
            f"data.held_out = {held_out} of the {tokens:,} tokens in {directory} is more than evaluation can hold, "
            f"{MAX_HELD_OUT:,}; set --data.held_out {_round_down(MAX_HELD_OUT / tokens)}"
        )
    start = math.ceil(tokens * (1 - held_out))
    cut = _next_document(found, start) or _last_document(found, min(start, tokens - 1))
    if not cut:
        raise UserError(
            f"the shards in {directory} hold one document, expected two or more: one is held out"
        )
    if tokens - cut > MAX_HELD_OUT:
        raise UserError(
            f"the last document in {directory} has {tokens - cut:,} tokens, more than evaluation can hold, "
            f"{MAX_HELD_OUT:,}; encode the text with a shorter one at its end"
        )
    return ShardSplit(found, cut)


def _round_down(share: float) -> float:
    """Round to two digits, never up."""
    unit = 10.0 ** (math.floor(math.log10(share)) - 1)
    return float(f"{math.floor(share / unit) * unit:.2g}")


def _next_document(found: ShardSet, start: int) -> int:
    """Return the first position from `start` on where a document begins; 0 if there is none."""
    last = found.index.tokens - 1  # <|endoftext|> too, but nothing begins there
    for first in range(start, last, _BLOCK):
        ends = _document_ends(found, first, min(first + _BLOCK, last))
        if len(ends):
            return first + int(ends[0])
    return 0


def _last_document(found: ShardSet, stop: int) -> int:
    """Return the last position before `stop` where a document begins; 0 if there is none."""
    for last in range(stop, 0, -_BLOCK):
        first = max(last - _BLOCK, 0)
        ends = _document_ends(found, first, last)
        if len(ends):
            return first + int(ends[-1])
    return 0


def _document_ends(found: ShardSet, start: int, stop: int) -> npt.NDArray[np.intp]:
    """Return the offsets of <|endoftext|> between two positions."""
    return np.flatnonzero(shards.read(found, start, stop - start) == found.tokenizer.end_of_text)
