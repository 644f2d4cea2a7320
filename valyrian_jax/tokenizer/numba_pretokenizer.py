"""The same cuts as in `split`, compiled with Numba, and a table of the pieces met so far.

What a piece is, is told in `split`; tests hold this file to that one. A text is an array of bytes, walked over once. A
table is open-addressed: `slots` (its size a power of two, at most half full) holds the row of a piece, or -1. Where a
search begins depends on `mix`, an odd number that is secret: then no text can be made whose pieces all meet.
"""

import numba
import numpy as np
import numpy.typing as npt

from valyrian_jax.tokenizer.pretokenizer import OTHER, SPACE

Bytes = npt.NDArray[np.uint8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

KEY, START, END, COUNT, FIRST = range(5)  # the columns of a table of pieces
COLUMNS = 5
_HASHED = np.uint64(1 << 63)

jit = numba.njit(cache=True, nogil=True)


@jit
def character(text: Bytes, i: int, end: int) -> tuple[int, int]:
    """The code point at byte i < end, and its length; -1 and 1 for a byte that is not UTF-8."""
    a = np.int64(text[i])
    if a < 0x80:
        return a, 1
    length = 2 if 0xC2 <= a < 0xE0 else 3 if 0xE0 <= a < 0xF0 else 4 if 0xF0 <= a < 0xF5 else 0
    if length == 0 or i + length > end:
        return -1, 1
    point = a & (0xFF >> (length + 1))
    for k in range(1, length):
        b = np.int64(text[i + k])
        if b & 0xC0 != 0x80:
            return -1, 1
        point = point << 6 | b & 0x3F
    shortest = 0x80 if length == 2 else 0x800 if length == 3 else 0x10000
    if point < shortest or 0xD800 <= point < 0xE000 or point > 0x10FFFF:
        return -1, 1
    return point, length


@jit
def class_at(text: Bytes, i: int, end: int, classes: Bytes) -> tuple[int, int]:
    """Class and length of the character at byte i < end."""
    if text[i] < 0x80:
        return np.int64(classes[text[i]]), 1
    point, length = character(text, i, end)
    return np.int64(classes[point]) if point >= 0 else OTHER, length


@jit
def piece_end(text: Bytes, start: int, end: int, classes: Bytes) -> int:
    """Where the piece that begins at `start` ends; the text ends at `end` > start."""
    if text[start] == 0x27 and start + 1 < end:  # an apostrophe: 's 't 'm 'd 're 've 'll
        a = text[start + 1]
        if a == 0x73 or a == 0x74 or a == 0x6D or a == 0x64:
            return start + 2
        if start + 2 < end:
            b = text[start + 2]
            if ((a == 0x72 or a == 0x76) and b == 0x65) or (a == 0x6C and b == 0x6C):
                return start + 3
    kind, length = class_at(text, start, end, classes)
    i, last = start + length, start
    if kind == SPACE:
        while i < end:
            following, length = class_at(text, i, end, classes)
            if following != SPACE:
                break
            last = i
            i += length
        if i == end:
            return end
        if last > start:
            return last  # the last space is cut off
        if text[start] != 0x20:
            return i
        kind = following  # one U+0020 joins what follows
        i += length
    while i < end:
        following, length = class_at(text, i, end, classes)
        if following != kind:
            break
        i += length
    return i


@jit
def home(key: int, size: int, mix: np.uint64) -> np.uint64:
    """The slot, of `size`, where the search for a key begins; which keys meet there, only `mix` says."""
    mixed = np.uint64(key) * mix
    mixed = (mixed ^ mixed >> np.uint64(32)) * mix
    return (mixed >> np.uint64(32)) * np.uint64(size) >> np.uint64(32)


@jit
def key_of(text: Bytes, a: int, b: int, mix: np.uint64) -> np.uint64:
    """A number for text[a:b]: up to 7 bytes themselves with their length, else a hash with the highest bit set."""
    key = np.uint64(0)
    if b - a < 8:
        for i in range(a, b):
            key = key << np.uint64(8) | np.uint64(text[i])
        return key | np.uint64(b - a) << np.uint64(56)
    key = mix  # not 0, which leading NULs would leave as it is
    for i in range(a, b):
        key = (key ^ np.uint64(text[i])) * mix
        key ^= key >> np.uint64(32)
    return key | _HASHED


@jit
def find_piece(text: Bytes, a: int, b: int, slots: Int32, pieces: Int64, mix: np.uint64) -> int:
    """The slot of the piece text[a:b] in a table of pieces, or the empty one where it belongs."""
    mask = np.uint64(len(slots) - 1)
    key = key_of(text, a, b, mix)
    at = home(key, len(slots), mix)
    while slots[at] >= 0:
        k = slots[at]
        start = pieces[k, START]
        if pieces[k, KEY] == np.int64(key) and pieces[k, END] - start == b - a:
            i = b if key < _HASHED else a
            while i < b and text[i] == text[start + i - a]:
                i += 1
            if i == b:
                break
        at = (at + np.uint64(1)) & mask
    return np.int64(at)


@jit
def with_space(slots: Int32, pieces: Int64, known: int, mix: np.uint64) -> tuple[Int32, Int64]:
    """The table with space for one more piece than are known."""
    if known < len(pieces):
        return slots, pieces
    room = max(2 * known, 1 << 11)
    more = np.empty((room, COLUMNS), np.int64)
    more[:known] = pieces[:known]
    slots = np.full(2 * room, -1, np.int32)
    mask = np.uint64(len(slots) - 1)
    for k in range(known):
        at = home(more[k, KEY], len(slots), mix)
        while slots[at] >= 0:
            at = (at + np.uint64(1)) & mask
        slots[at] = k
    return slots, more


@jit
def count(text: Bytes, cuts: Int64, classes: Bytes, mix: np.uint64) -> tuple[Int64, Int64, Int64]:
    """Start, end and count of the distinct pieces of texts that end at each of `cuts`."""
    slots, pieces = with_space(np.empty(0, np.int32), np.empty((0, COLUMNS), np.int64), 0, mix)
    known = a = 0
    for end in cuts:
        while a < end:
            b = piece_end(text, a, end, classes)
            at = find_piece(text, a, b, slots, pieces, mix)
            k = slots[at]
            if k < 0:
                k = slots[at] = known
                pieces[k, KEY], pieces[k, START], pieces[k, END], pieces[k, COUNT] = (
                    key_of(text, a, b, mix),
                    a,
                    b,
                    0,
                )
                known += 1
                slots, pieces = with_space(slots, pieces, known, mix)
            pieces[k, COUNT] += 1
            a = b
    return pieces[:known, START].copy(), pieces[:known, END].copy(), pieces[:known, COUNT].copy()
