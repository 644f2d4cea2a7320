"""The split of a text: its end is held out, in whole documents where their lengths allow it.

Both parts are always within a factor of two of the requested shares. If no document ends in that
range, one is cut: at a line, else at a sentence, else at a token boundary.
"""

import math
import re
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

import numpy as np

from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer.batch import encode_utf8
from valyrian_jax.tokenizer.pretokenizer import split_text

TOKEN_BOUNDARY = "token boundary"
# Where to cut a document, best first; the white space of a match belongs to neither part.
_BREAKS = (
    ("line", re.compile(r"\n+")),
    ("sentence", re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*")),
    (TOKEN_BOUNDARY, re.compile(r"\s+")),
)
_NEAR = 1 << 12  # characters before and after a position that are searched for a boundary


class DataSplit(NamedTuple):
    """The training and the held-out documents of a text."""

    train: list[str]
    held_out: list[str]
    cut: str = ""  # a note on why and where a document was cut; empty if all documents are whole


def split_documents(documents: Sequence[str], held_out: float) -> DataSplit:
    """Hold out the end of a text, close to the share `held_out` of its bytes."""
    ends = np.cumsum([0, *map(_count_bytes, documents)])
    first, last = (share * ends[-1] for share in cut_range(held_out))
    in_range = (first <= ends[1:-1]) & (ends[1:-1] <= last)
    # Of several boundaries in range, the nearest one in characters is taken.
    lengths = np.cumsum([0, *map(len, documents)])
    wanted = lengths[-1] * (1 - held_out)
    distances = np.abs(lengths[1:-1] - wanted)
    if in_range.any():
        cut = int(np.where(in_range, distances, np.inf).argmin()) + 1
        return DataSplit([*documents[:cut]], [*documents[cut:]])
    index = int(np.searchsorted(ends, first, "right")) - 1  # of the document around the range
    pieces = None
    if index < len(documents):
        start, stop = first - ends[index], last - ends[index]
        pieces = _cut_document(documents[index], start, stop, wanted - lengths[index])
    if pieces is None:
        return _split_short_text(documents, held_out, distances)
    head, tail, boundary = pieces
    split = DataSplit([*documents[:index], head], [tail, *documents[index + 1 :]])
    is_last = index == len(documents) - 1
    name = "the last document" if is_last else f"document {index + 1:,} of {len(documents):,}"
    return split._replace(cut=describe_cut(name, held_out, boundary, _measure_share(split)))


def cut_range(held_out: float) -> tuple[float, float]:
    """Return the range, in shares of a text, in which a held-out part may begin."""
    train = 1 - held_out
    return max(1 - 2 * held_out, train / 2), min(1 - held_out / 2, 2 * train)


def describe_cut(document: str, held_out: float, boundary: str, share: float) -> str:
    """Describe the cut of a document that covers the whole range of `cut_range`.

    `held_out` is the requested share of the held-out part, `share` the actual one.
    """
    part = "held-out" if held_out <= 0.5 else "training"
    return (
        f"{document} is longer than the {part} part: cut at a {boundary}; {100 * share:.3g}% of "
        "the text is held out"
    )


def _cut_document(
    document: str, first: float, last: float, wanted: float
) -> tuple[str, str, str] | None:
    """Cut a document at the best boundary that has `first` to `last` bytes before it.

    `wanted` is the number of characters before the cut that would give the requested share. Returns
    the text before the cut, the text after it and the kind of boundary; None if no character begins
    in the range.
    """
    data = encode_utf8(document)
    low = len(document) - len(data[math.ceil(first) :].decode(errors="ignore"))
    high = len(data[: math.floor(last)].decode(errors="ignore"))
    if low > high:
        return None
    wanted = min(max(wanted, low), high)
    for boundary, pattern in _BREAKS:
        spans = (match.span() for match in pattern.finditer(document, low))
        spans_in_range = takewhile(lambda span: span[1] <= high, spans)
        nearest = min(spans_in_range, key=lambda span: abs(span[1] - wanted), default=None)
        if nearest is not None:
            head, tail = document[: nearest[0]].rstrip(), document[nearest[1] :]
            if _count_bytes(head) >= first:
                return head, tail, boundary
    cut = _find_token_boundary(document, low, high, round(wanted))
    return document[:cut], document[cut:], TOKEN_BOUNDARY


def _find_token_boundary(document: str, low: int, high: int, wanted: int) -> int:
    """Return the boundary between two pre-tokens in a range that is nearest to `wanted`.

    A pre-token that is longer than the range is cut at `wanted`.
    """
    start = max(wanted - _NEAR, low)
    data = encode_utf8(document[start : min(wanted + _NEAR, high)])
    boundaries = split_text(data)[1:-1]
    if not len(boundaries):
        return wanted
    offset = _count_bytes(document[start:wanted])
    return start + len(data[: boundaries[np.abs(boundaries - offset).argmin()]].decode())


def _split_short_text(
    documents: Sequence[str], held_out: float, distances: np.ndarray
) -> DataSplit:
    """Split a text of a few characters, in which no boundary is near the requested share."""
    text = "".join(documents)
    if len(text) < 2:
        raise UserError(
            f"the text is too short to hold out a part: expected at least 2 characters, found "
            f"{len(text)}; use a longer text"
        )
    if len(documents) > 1:
        cut = int(distances.argmin()) + 1
        split = DataSplit([*documents[:cut]], [*documents[cut:]])
    else:
        cut = min(max(round(len(text) * (1 - held_out)), 1), len(text) - 1)
        split = DataSplit([text[:cut]], [text[cut:]])
    share = 100 * _measure_share(split)
    return split._replace(cut=f"the text is so short that {share:.3g}% of it is held out")


def _measure_share(split: DataSplit) -> float:
    train, held_out = (sum(map(_count_bytes, part)) for part in (split.train, split.held_out))
    return held_out / (train + held_out)


def _count_bytes(text: str) -> int:
    return len(encode_utf8(text))
