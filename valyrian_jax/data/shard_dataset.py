"""Shards as the text of a run: what is held out, and batches, without ever holding the training part.

Windows begin at every T-th token and are shuffled anew in every epoch. (`grain` could do this too; but a place in the
order of an epoch is a function of the step and the row here, so there is no loader, and no state of one, to carry.)
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from valyrian_jax.data import permutation
from valyrian_jax.data.shards import INDEX, TOKENIZER, ShardSet, Tokens, open_shards, read
from valyrian_jax.data.text import DOCUMENT_SEPARATOR
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer

LARGEST_HELD_OUT = 50_000_000  # tokens: evaluation holds all of them in memory, several times, and computes on all
_LOOKED_THROUGH = 1 << 20  # tokens at a time


class Parts(NamedTuple):
    """Shards, and where their held-out part begins: at the <|endoftext|> of its first document."""

    shards: ShardSet
    cut: int

    @property
    def training(self) -> int:
        """Tokens of the training part: as in `data.tokenize`, <|endoftext|> stands behind its last document too."""
        return self.cut + 1

    @property
    def held_out(self) -> int:
        """Tokens of the held-out part."""
        return self.shards.index.tokens - self.cut


def open_parts(directory: Path, held_out: float) -> Parts:
    """Open shards and hold out their end: the first document that begins in the last `held_out` of the tokens on.

    If none begins there, it is the last document.

    Raises:
        UserError: the shards are damaged or unfinished, hold one document only, or too much is to be held out.
    """
    found = open_shards(directory)
    tokens = found.index.tokens
    if tokens * held_out > LARGEST_HELD_OUT:
        raise UserError(
            f"data.held_out = {held_out} of the {tokens:,} tokens in {directory} is more than evaluation can hold, "
            f"{LARGEST_HELD_OUT:,}; set --data.held_out {_rounded_down(LARGEST_HELD_OUT / tokens)}"
        )
    start = math.ceil(tokens * (1 - held_out))
    cut = _next_document(found, start) or _last_document(found, min(start, tokens - 1))
    if not cut:
        raise UserError(f"the shards in {directory} hold one document, expected two or more: one is held out")
    if tokens - cut > LARGEST_HELD_OUT:
        raise UserError(
            f"the last document in {directory} has {tokens - cut:,} tokens, more than evaluation can hold, "
            f"{LARGEST_HELD_OUT:,}; encode the text with a shorter one at its end"
        )
    return Parts(found, cut)


def _rounded_down(share: float) -> float:
    """With two digits, and not more than it is."""
    unit = 10.0 ** (math.floor(math.log10(share)) - 1)
    return float(f"{math.floor(share / unit) * unit:.2g}")


def _next_document(found: ShardSet, start: int) -> int:
    """The first place from `start` on where a document begins; 0 if there is none."""
    last = found.index.tokens - 1  # <|endoftext|> too, but nothing begins there
    for place in range(start, last, _LOOKED_THROUGH):
        ends = np.flatnonzero(_slice(found, place, min(place + _LOOKED_THROUGH, last)) == found.tokenizer.end_of_text)
        if len(ends):
            return place + int(ends[0])
    return 0


def _last_document(found: ShardSet, stop: int) -> int:
    """The last place before `stop` where a document begins."""
    for place in range(stop, 0, -_LOOKED_THROUGH):
        first = max(place - _LOOKED_THROUGH, 0)
        ends = np.flatnonzero(_slice(found, first, place) == found.tokenizer.end_of_text)
        if len(ends):
            return first + int(ends[-1])
    return 0


def _slice(found: ShardSet, start: int, stop: int) -> Tokens:
    return read(found, start, stop - start)


def _check_ids(found: ShardSet, tokens: npt.NDArray[np.integer]) -> None:
    """No header tells of damage among the tokens, and JAX would silently take the last token for what is beyond it."""
    if (largest := tokens.max(initial=0)) >= found.index.vocab_size:
        raise UserError(
            f"the shards in {found.directory} are damaged: token {largest}, expected less than "
            f"{found.index.vocab_size}; compare them with the SHA-256 in {INDEX}, or encode the text again"
        )


def fitting(found: ShardSet, tokenizer: Tokenizer | None, name: str) -> Tokenizer:
    """The tokenizer of a run on shards.

    Args:
        found: the shards.
        tokenizer: that the run brings; None: that of the shards.
        name: of what it brings, for the message.

    Raises:
        UserError: it is not the one that made the shards.
    """
    if tokenizer is not None and tokenizer.sha256 != found.tokenizer.sha256:
        raise UserError(
            f"{name} has SHA-256 {tokenizer.sha256[:12]}, but the shards were made with "
            f"{found.directory / TOKENIZER}, {found.tokenizer.sha256[:12]}; encode the text again with the one, "
            "or train with the other"
        )
    return found.tokenizer


def held_out_tokens(parts: Parts) -> Tokens:
    """The held-out part, as `data.tokenize` gives it.

    Raises:
        UserError: a token is none.
    """
    tokens = _slice(parts.shards, parts.cut, parts.shards.index.tokens)
    _check_ids(parts.shards, tokens)
    return tokens


def byte_count(tokens: Tokens, tokenizer: Tokenizer) -> int:
    """What `data.byte_count` gives for the documents of a held-out part: <|endoftext|> is the blank line after each."""
    lengths = np.array([len(token) for token in tokenizer.tokens], np.int32)
    lengths[tokenizer.end_of_text] = len(DOCUMENT_SEPARATOR)
    return int(lengths[tokens[1:]].sum())


def batch(
    parts: Parts, seed: int, step: int, rows: int, length: int, part: slice = slice(None)
) -> npt.NDArray[np.int32]:
    """The batch of one step: the next windows in the order of the epoch.

    Window w begins at token w T, so that each target of the training part comes once an epoch, but for fewer than T at
    its end. A step of the run takes the next B windows, also across the end of an epoch.

    Args:
        parts: the shards.
        seed: of the run.
        step: of the run.
        rows: B.
        length: T; a window holds T + 1 tokens, so that each of T inputs has its target.
        part: the rows to make; other rows are those of other devices, and are not read.

    Returns:
        (B, T + 1) token ids, or fewer rows.

    Raises:
        UserError: the training part has fewer than T + 1 tokens, or a token is none.
    """
    windows = (parts.training - 1) // length
    if windows < 1:
        raise UserError(
            f"the training part is too short: {parts.training} tokens, but model.n_positions = {length} needs "
            f"at least {length + 1}; give more text or a shorter context"
        )
    counts = step * rows + np.arange(rows)[part]
    epochs, indices = np.divmod(counts, windows)
    found = np.empty((len(counts), length + 1), np.int32)
    for epoch in np.unique(epochs).tolist():
        here = np.flatnonzero(epochs == epoch)
        places = permutation.permute(indices[here].astype(np.uint64), windows, seed, epoch)
        for row, place in zip(here.tolist(), places.tolist(), strict=True):
            found[row] = read(parts.shards, place * length, length + 1)
    _check_ids(parts.shards, found)
    return found
