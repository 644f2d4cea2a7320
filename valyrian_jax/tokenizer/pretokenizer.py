r"""The pre-tokenizer: where text may be cut before any merging. Merges never cross a cut.

The cuts are exactly those of GPT-2's pattern (Radford et al. 2019)

    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+

but found without a regular-expression engine, from one table that gives every code point a class: letter, number,
space or other. Three rules say the same as the pattern:

1. A piece is a maximal run of one class.
2. Of a run of spaces before something else, the last one is cut off; if it is U+0020 it joins what follows.
3. An apostrophe that begins a piece and is followed by s, t, m, d, re, ve or ll forms a piece with it.

The table is Unicode 16.0 (the one that the `tokenizers` and `tiktoken` packages carry), kept as ranges in
`unicode_classes.csv`, so that no Python or library version can move a cut.
"""

import csv
import functools
from collections.abc import Sequence
from importlib import resources

import numpy as np
import numpy.typing as npt

OTHER, LETTER, NUMBER, SPACE = 0, 1, 2, 3
_CLASS_OF = {"L": LETTER, "N": NUMBER, "S": SPACE}
_CODE_POINTS = 0x110000
_END, _NO_CLASS = "\ud800", 4  # between texts


@functools.cache
def class_table() -> npt.NDArray[np.uint8]:
    """The class of every code point, as a uint8 array of length 0x110000."""
    table = np.full(_CODE_POINTS, OTHER, dtype=np.uint8)
    with (
        resources.files("valyrian_jax.tokenizer")
        .joinpath("unicode_classes.csv")
        .open(encoding="ascii") as file
    ):
        for row in csv.DictReader(file):
            table[int(row["first"], 16) : int(row["last"], 16) + 1] = _CLASS_OF[row["class"]]
    table.flags.writeable = False
    return table


def split_text(data: bytes) -> npt.NDArray[np.int64]:
    """Cut bytes into pieces.

    Bytes that are not UTF-8 count as "other" characters of one byte each.

    Args:
        data: any bytes.

    Returns:
        P + 1 increasing byte offsets from 0 to len(data): piece p is data[offsets[p]:offsets[p + 1]].
    """
    return split_texts([data])


def split_texts(texts: Sequence[bytes]) -> npt.NDArray[np.int64]:
    """Cut several texts in one go: the same offsets as `split` gives, in all texts one behind the other."""
    # Each undecodable byte becomes one surrogate U+DC80..U+DCFF, which no valid UTF-8 contains, as it has no U+D800.
    text = _END.join(data.decode("utf-8", "surrogateescape") for data in texts)
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    lengths = _utf8_lengths(points)
    starts = _piece_starts(points) & (lengths > 0)
    return np.append((np.cumsum(lengths) - lengths)[starts], lengths.sum())


def _piece_starts(points: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """True where a piece begins; code points uint32[N] -> bool[N]."""
    classes = class_table()[points]
    classes[points == ord(_END)] = _NO_CLASS
    starts = np.ones(len(points), dtype=bool)
    starts[1:] = classes[1:] != classes[:-1]  # rule 1

    # position i + 1 begins what follows a run of spaces
    run_ends = starts[1:] & (classes[:-1] == SPACE) & (classes[1:] != _NO_CLASS)
    starts[:-1] |= run_ends  # rule 2: the last space is cut off
    starts[1:] &= ~(run_ends & (points[:-1] == ord(" ")))  # ... and joins what follows

    _join_contractions(points, starts)
    return starts


def _join_contractions(points: npt.NDArray[np.uint32], starts: npt.NDArray[np.bool_]) -> None:
    """Rule 3, applied to `starts` in place."""
    quotes = np.flatnonzero(starts & (points == ord("'")))
    quotes = quotes[quotes + 1 < len(points)]
    first = points[quotes + 1]
    second = points[np.minimum(quotes + 2, len(points) - 1)]
    has_two = quotes + 2 < len(points)
    short = np.isin(first, [ord(c) for c in "stmd"])
    long = has_two & np.logical_or.reduce(
        [(first == ord(a)) & (second == ord(b)) for a, b in ("re", "ve", "ll")]
    )
    for found, length in ((quotes[short], 2), (quotes[long], 3)):
        starts[found + 1] = False
        ends = found + length
        starts[ends[ends < len(points)]] = True


def _utf8_lengths(points: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """Bytes of each code point in UTF-8; 1 for the surrogates that stand for undecodable bytes, 0 for an end."""
    lengths = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    lengths[(points >= 0xD800) & (points < 0xE000)] = 1
    lengths[points == ord(_END)] = 0
    return lengths
