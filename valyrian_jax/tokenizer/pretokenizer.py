r"""The pre-tokenizer: it splits text into pieces, and no merge crosses from one piece to the next.

The pieces are exactly those of GPT-2's pattern (Radford et al. 2019)

    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+

without a regular-expression engine. A table gives every code point a class: letter, number, space
or other. Three rules are equivalent to the pattern:

1. A piece is a maximal run of one class.
2. The last space of a run of spaces before something else is a piece by itself; if it is U+0020,
   it joins the piece that follows.
3. An apostrophe that begins a piece and is followed by s, t, m, d, re, ve or ll forms a piece with
   these letters.

The classes are those of Unicode 16.0, which `tokenizers` and `tiktoken` also use. They are stored
in `unicode_classes.csv`, so the pieces depend on no version of Python or of a library.
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
_SEPARATOR, _NO_CLASS = "\ud800", 4  # between texts


@functools.cache
def load_class_table() -> npt.NDArray[np.uint8]:
    """Return the class of every code point, as uint8 [0x110000]."""
    table = np.full(_CODE_POINTS, OTHER, dtype=np.uint8)
    path = resources.files("valyrian_jax.tokenizer") / "unicode_classes.csv"
    with path.open(encoding="ascii") as file:
        for row in csv.DictReader(file):
            table[int(row["first"], 16) : int(row["last"], 16) + 1] = _CLASS_OF[row["class"]]
    table.flags.writeable = False
    return table


def split_text(data: bytes) -> npt.NDArray[np.int64]:
    """Split bytes into pieces.

    A byte that is not UTF-8 counts as one character of class "other".

    Args:
        data: Any bytes.

    Returns:
        P + 1 increasing byte offsets; piece p is data[offsets[p] : offsets[p + 1]].
    """
    return split_texts([data])


def split_texts(texts: Sequence[bytes]) -> npt.NDArray[np.int64]:
    """Split several texts at once; the offsets are those of `split_text` in their concatenation."""
    # Each undecodable byte becomes one surrogate U+DC80..U+DCFF. Valid UTF-8 contains no surrogate,
    # and so no separator.
    text = _SEPARATOR.join(data.decode("utf-8", "surrogateescape") for data in texts)
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    lengths = _count_utf8_bytes(points)
    starts = _find_piece_starts(points) & (lengths > 0)
    return np.append((np.cumsum(lengths) - lengths)[starts], lengths.sum())


def _find_piece_starts(points: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Return whether a piece begins at each of the code points; uint32[N] -> bool[N]."""
    classes = load_class_table()[points]
    classes[points == ord(_SEPARATOR)] = _NO_CLASS
    starts = np.ones(len(points), dtype=bool)
    starts[1:] = classes[1:] != classes[:-1]  # rule 1

    # True for i if position i ends a run of spaces and something else follows it.
    run_ends = starts[1:] & (classes[:-1] == SPACE) & (classes[1:] != _NO_CLASS)
    starts[:-1] |= run_ends  # rule 2: the last space begins a piece
    starts[1:] &= ~(run_ends & (points[:-1] == ord(" ")))  # rule 2: U+0020 joins what follows

    _join_contractions(points, starts)
    return starts


def _join_contractions(points: npt.NDArray[np.uint32], starts: npt.NDArray[np.bool_]) -> None:
    """Apply rule 3 to `starts` in place."""
    quotes = np.flatnonzero(starts & (points == ord("'")))
    quotes = quotes[quotes + 1 < len(points)]
    first = points[quotes + 1]
    second = points[np.minimum(quotes + 2, len(points) - 1)]
    has_two = quotes + 2 < len(points)
    is_short = np.isin(first, [ord(c) for c in "stmd"])
    is_long = has_two & np.logical_or.reduce(
        [(first == ord(a)) & (second == ord(b)) for a, b in ("re", "ve", "ll")]
    )
    for contractions, length in ((quotes[is_short], 2), (quotes[is_long], 3)):
        starts[contractions + 1] = False
        ends = contractions + length
        starts[ends[ends < len(points)]] = True


def _count_utf8_bytes(points: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """Return the UTF-8 length of each code point: 1 for undecodable bytes, 0 for separators."""
    lengths = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    lengths[(points >= 0xD800) & (points < 0xE000)] = 1
    lengths[points == ord(_SEPARATOR)] = 0
    return lengths
