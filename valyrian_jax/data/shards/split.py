"""The split of shards: their end is held out, in whole documents where their lengths allow it."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from valyrian_jax.data.shards.shard_set import ShardSet, open_shards, read_tokens
from valyrian_jax.data.split import TOKEN_BOUNDARY, cut_range, describe_cut
from valyrian_jax.errors import UserError

MAX_HELD_OUT = 50_000_000  # tokens; evaluation holds several copies of them in memory
_BLOCK = 1 << 20  # tokens searched at a time


class ShardSplit(NamedTuple):
    """Shards, and where their held-out part begins."""

    shards: ShardSet
    cut: int
    """Position of the last token of the training part, which is also the first token of the
    held-out part, where it is context only: the <|endoftext|> between two documents, or a token
    inside a long document."""
    description: str = ""
    """A note on why and where a document was cut; empty if all documents are whole."""

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

    The held-out part begins at the first document within the last `held_out` of the tokens, or else
    at the last document before them. If neither is in the range of `cut_range`, a document is cut:
    at a line or a sentence near the requested share, else between two tokens.

    Raises:
        UserError: The shards are damaged, unfinished or too short, or the share is too large.
    """
    shards = open_shards(directory)
    tokens = shards.index.tokens
    if tokens < 4:  # A window of three is the shortest to train on, and one is held out.
        raise UserError(
            f"the shards in {directory} hold {tokens} tokens, expected at least 4; encode more text"
        )
    if tokens * held_out > MAX_HELD_OUT:
        raise UserError(
            f"data.held_out = {held_out} of the {tokens:,} tokens in {directory} is more than an "
            f"evaluation can hold, {MAX_HELD_OUT:,}; set --data.held_out "
            f"{_round_down(MAX_HELD_OUT / tokens)}"
        )
    shares = cut_range(held_out)
    first = min(max(math.ceil(shares[0] * tokens), tokens - MAX_HELD_OUT, 1), tokens - 2)
    last = max(min(math.floor(shares[1] * tokens), tokens - 2), first)
    wanted = min(max(math.ceil(tokens * (1 - held_out)), first), last)
    cut = _find_next_document(shards, wanted, last + 1)
    if cut := cut or _find_last_document(shards, first, wanted):
        return ShardSplit(shards, cut)
    cut, boundary = _find_boundary(shards, first, last, wanted)
    share = (tokens - 1 - cut) / (tokens - 1)
    return ShardSplit(shards, cut, describe_cut("a document", held_out, boundary, share))


def _round_down(share: float) -> float:
    """Round to two digits, never up."""
    unit = 10.0 ** (math.floor(math.log10(share)) - 1)
    return float(f"{math.floor(share / unit) * unit:.2g}")


def _find_boundary(shards: ShardSet, first: int, last: int, wanted: int) -> tuple[int, str]:
    """Return where to cut a document in a range, near `wanted`, and the kind of boundary there."""
    start, stop = max(first, wanted - _BLOCK), min(last, wanted + _BLOCK) + 1
    tokens, vocabulary = read_tokens(shards, start, stop - start + 1), shards.tokenizer.tokens

    def find(predicate: Callable[[bytes], bool]) -> npt.NDArray[np.bool_]:
        return np.isin(tokens, [i for i, token in enumerate(vocabulary) if predicate(token)])

    ends_sentence = find(lambda token: token.endswith((b".", b"!", b"?")))[:-1]
    is_boundary = {
        "line": find(lambda token: token.endswith(b"\n"))[:-1],
        "sentence": ends_sentence & find(lambda token: token[:1].isspace())[1:],
    }
    for boundary, mask in is_boundary.items():
        cuts = start + np.flatnonzero(mask)
        if len(cuts):
            return int(cuts[np.abs(cuts - wanted).argmin()]), boundary
    return wanted, TOKEN_BOUNDARY


def _find_next_document(shards: ShardSet, start: int, stop: int) -> int:
    """Return the first position from `start` on where a document begins; 0 if there is none."""
    for first in range(start, stop, _BLOCK):
        ends = _find_ends(shards, first, min(first + _BLOCK, stop))
        if len(ends):
            return first + int(ends[0])
    return 0


def _find_last_document(shards: ShardSet, start: int, stop: int) -> int:
    """Return the last position before `stop` where a document begins; 0 if there is none."""
    for last in range(stop, start, -_BLOCK):
        first = max(last - _BLOCK, start)
        ends = _find_ends(shards, first, last)
        if len(ends):
            return first + int(ends[-1])
    return 0


def _find_ends(shards: ShardSet, start: int, stop: int) -> npt.NDArray[np.intp]:
    """Return the offsets of <|endoftext|> between two positions."""
    return np.flatnonzero(read_tokens(shards, start, stop - start) == shards.tokenizer.end_of_text)
