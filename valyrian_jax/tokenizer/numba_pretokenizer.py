"""The pieces of `pretokenizer`, found by Numba code, and a hash table of pieces.

`pretokenizer` defines the pieces; tests compare this module with it. A text is an array of bytes
that is read once. The table uses open addressing: `slots` holds the row of a piece or -1, its size
is a power of two, and at most half of it is used. The first slot of a search depends on `mix`, a
secret odd number, so no text can make all its pieces collide.
"""

import numba
import numpy as np
import numpy.typing as npt

from valyrian_jax.tokenizer.pretokenizer import OTHER, SPACE

Bytes = npt.NDArray[np.uint8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

# Columns of a table of pieces: the key, the bytes of the text, a count of occurrences or of ids,
# and the position of the ids in the output.
KEY, START, END, COUNT, IDS_START = range(5)
COLUMNS = 5
_IS_HASH = np.uint64(1 << 63)

jit = numba.njit(cache=True, nogil=True)


@jit
def decode_character(text: Bytes, i: int, end: int) -> tuple[int, int]:
    """Return the code point at byte i < end and its length; -1 and 1 for a byte not in UTF-8."""
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
    smallest = 0x80 if length == 2 else 0x800 if length == 3 else 0x10000
    if point < smallest or 0xD800 <= point < 0xE000 or point > 0x10FFFF:
        return -1, 1
    return point, length


@jit
def classify_character(text: Bytes, i: int, end: int, classes: Bytes) -> tuple[int, int]:
    """Return the class and the length of the character at byte i < end."""
    if text[i] < 0x80:
        return np.int64(classes[text[i]]), 1
    point, length = decode_character(text, i, end)
    return np.int64(classes[point]) if point >= 0 else OTHER, length


@jit
def find_piece_end(text: Bytes, start: int, end: int, classes: Bytes) -> int:
    """Return the end of the piece that begins at `start`, in a text that ends at `end` > start."""
    if text[start] == 0x27 and start + 1 < end:  # an apostrophe: 's 't 'm 'd 're 've 'll
        a = text[start + 1]
        if a == 0x73 or a == 0x74 or a == 0x6D or a == 0x64:
            return start + 2
        if start + 2 < end:
            b = text[start + 2]
            if ((a == 0x72 or a == 0x76) and b == 0x65) or (a == 0x6C and b == 0x6C):
                return start + 3
    piece_class, length = classify_character(text, start, end, classes)
    i, last = start + length, start
    if piece_class == SPACE:
        while i < end:
            next_class, length = classify_character(text, i, end, classes)
            if next_class != SPACE:
                break
            last = i
            i += length
        if i == end:
            return end
        if last > start:
            return last  # the last space is not part of this piece
        if text[start] != 0x20:
            return i
        piece_class = next_class  # one U+0020 joins what follows
        i += length
    while i < end:
        next_class, length = classify_character(text, i, end, classes)
        if next_class != piece_class:
            break
        i += length
    return i


@jit
def choose_first_slot(key: int, size: int, mix: np.uint64) -> np.uint64:
    """Return the slot, of `size`, where the search for a key begins."""
    mixed = np.uint64(key) * mix
    mixed = (mixed ^ mixed >> np.uint64(32)) * mix
    return (mixed >> np.uint64(32)) * np.uint64(size) >> np.uint64(32)


@jit
def make_key(text: Bytes, a: int, b: int, mix: np.uint64) -> np.uint64:
    """Return the key of text[a:b]: up to 7 bytes with their length, else a marked hash."""
    key = np.uint64(0)
    if b - a < 8:
        for i in range(a, b):
            key = key << np.uint64(8) | np.uint64(text[i])
        return key | np.uint64(b - a) << np.uint64(56)
    key = mix  # leading NULs would leave 0 unchanged
    for i in range(a, b):
        key = (key ^ np.uint64(text[i])) * mix
        key ^= key >> np.uint64(32)
    return key | _IS_HASH


@jit
def find_piece(text: Bytes, a: int, b: int, slots: Int32, pieces: Int64, mix: np.uint64) -> int:
    """Return the slot of the piece text[a:b] in a table of pieces, or the empty one for it."""
    mask = np.uint64(len(slots) - 1)
    key = make_key(text, a, b, mix)
    slot = choose_first_slot(key, len(slots), mix)
    while slots[slot] >= 0:
        row = slots[slot]
        start = pieces[row, START]
        if pieces[row, KEY] == np.int64(key) and pieces[row, END] - start == b - a:
            i = b if key < _IS_HASH else a  # a key that is not a hash is the piece itself
            while i < b and text[i] == text[start + i - a]:
                i += 1
            if i == b:
                break
        slot = (slot + np.uint64(1)) & mask
    return np.int64(slot)


@jit
def reserve_row(slots: Int32, pieces: Int64, used: int, mix: np.uint64) -> tuple[Int32, Int64]:
    """Return the table with room for one more piece than the `used` rows."""
    if used < len(pieces):
        return slots, pieces
    capacity = max(2 * used, 1 << 11)
    larger = np.empty((capacity, COLUMNS), np.int64)
    larger[:used] = pieces[:used]
    slots = np.full(2 * capacity, -1, np.int32)
    mask = np.uint64(len(slots) - 1)
    for row in range(used):
        slot = choose_first_slot(larger[row, KEY], len(slots), mix)
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = row
    return slots, larger


@jit
def count_pieces(
    text: Bytes, text_ends: Int64, classes: Bytes, mix: np.uint64
) -> tuple[Int64, Int64, Int64]:
    """Return start, end and count of the distinct pieces of concatenated texts."""
    slots, pieces = reserve_row(np.empty(0, np.int32), np.empty((0, COLUMNS), np.int64), 0, mix)
    used = a = 0
    for text_end in text_ends:
        while a < text_end:
            b = find_piece_end(text, a, text_end, classes)
            slot = find_piece(text, a, b, slots, pieces, mix)
            row = slots[slot]
            if row < 0:
                row = slots[slot] = used
                pieces[row, KEY] = make_key(text, a, b, mix)
                pieces[row, START], pieces[row, END], pieces[row, COUNT] = a, b, 0
                used += 1
                slots, pieces = reserve_row(slots, pieces, used, mix)
            pieces[row, COUNT] += 1
            a = b
    return pieces[:used, START].copy(), pieces[:used, END].copy(), pieces[:used, COUNT].copy()
