"""The pieces of `pretokenizer`, found by Numba code a block of text at a time.

`pretokenizer` defines the pieces; tests compare this module with it. The loops over a block have no
branches, so LLVM turns them into vector code. That takes slices instead of `i - 1` and `i + 1`, and
constants of the arrays' type.

Numba compiles a function again when the file of the function changes. When another file changes, it
runs old code. So files that call functions of this one have its hash in their `COMPILED_WITH`.
"""

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from valyrian_jax.tokenizer import pretokenizer

Bytes = npt.NDArray[np.uint8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]

OTHER, SPACE, NO_CLASS = np.uint8(pretokenizer.OTHER), np.uint8(pretokenizer.SPACE), np.uint8(4)
_BLANK, _ASCII_END = np.uint8(0x20), np.uint8(0x80)

BLOCK = 4096  # bytes of text cut at once
SLACK = 64  # bytes that may be read after a block
_LOOKAHEAD = 8  # bytes after a position that can decide whether a piece starts there

jit = numba.njit(cache=True, nogil=True)


class Block(NamedTuple):
    """Working memory to cut a part of a text.

    Attributes:
        words: The bytes, eight in a word.
        text: The same memory as bytes.
        classes: Class of each byte's character, from the second element on.
        flags: 1 where a piece starts, else 0.
        starts: Where the pieces start, and the end of the last one.
    """

    words: UInt64
    text: Bytes
    classes: Bytes
    flags: Bytes
    starts: Int32


@jit
def make_block(size: int) -> Block:
    """Return a block for `size` bytes, which is a multiple of eight."""
    words = np.zeros((size + SLACK) // 8, np.uint64)
    classes, flags = np.zeros(size + SLACK, np.uint8), np.zeros(size + SLACK, np.uint8)
    return Block(words, words.view(np.uint8), classes, flags, np.zeros(size + SLACK, np.int32))


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
def classify(block: Block, size: int, class_table: Bytes) -> bool:
    """Write the class of each byte's character; return whether all of them are ASCII."""
    text, classes = block.text[:size], block.classes[1 : size + 1]
    largest = np.uint8(0)
    for i in range(size):
        classes[i] = class_table[text[i]]
        largest = max(largest, text[i])
    block.classes[0] = block.classes[size + 1] = NO_CLASS
    if largest < _ASCII_END:
        return True
    i = 0
    while i < size:
        if text[i] < _ASCII_END:
            i += 1
            continue
        point, length = decode_character(text, i, size)
        character_class = class_table[point] if point >= 0 else OTHER
        for k in range(i, i + length):
            classes[k] = character_class
        i += length
    return False


@jit
def flag_starts(block: Block, size: int, is_ascii: bool) -> None:
    """Mark where the classes let a piece start: rules 1 and 2 of `pretokenizer`."""
    text, flags = block.text[:size], block.flags[:size]
    before, here, after = block.classes[:size], block.classes[1 : size + 1], block.classes[2:]
    before_text = block.text[: size - 1]
    for i in range(size):
        ends_run = (here[i] == SPACE) & (after[i] != SPACE) & (after[i] != NO_CLASS)
        flags[i] = (here[i] != before[i]) | ends_run
    later_flags, later = block.flags[1:size], block.classes[2 : size + 1]
    for i in range(size - 1):
        later_flags[i] &= (before_text[i] != _BLANK) | (later[i] == SPACE)
    if is_ascii:
        return
    for i in range(size):  # a space of several bytes starts at its first one
        if flags[i] and here[i] == SPACE and text[i] & 0xC0 == 0x80:
            flags[i] = 0
            flags[i - 1 if text[i - 1] >= 0xC0 else i - 2] = 1


@jit
def contraction_length(text: Bytes, i: int, end: int) -> int:
    """Return the length of 's 't 'm 'd 're 've or 'll at an apostrophe, or 0."""
    if i + 1 < end:
        a = text[i + 1]
        if a == 0x73 or a == 0x74 or a == 0x6D or a == 0x64:
            return 2
        if i + 2 < end:
            b = text[i + 2]
            if ((a == 0x72 or a == 0x76) and b == 0x65) or (a == 0x6C and b == 0x6C):
                return 3
    return 0


@jit
def collect_starts(block: Block, size: int, limit: int) -> int:
    """Write where the pieces before `limit` start, and return their number; applies rule 3."""
    text, flags, starts = block.text, block.flags[:limit], block.starts
    found = 0
    for i in range(limit):
        starts[found] = i
        found += flags[i]
    starts[found] = limit
    count = 0
    for k in range(found):
        i = starts[k]
        if i == starts[k + 1]:
            continue  # nothing follows the contraction before
        if text[i] == 0x27:
            length = contraction_length(text, i, size)
            if length > 0:
                starts[k + 1] = i + length
        starts[count] = i
        count += 1
    starts[count] = starts[found]
    return count


@jit
def cut(text: Bytes, start: int, end: int, class_table: Bytes, block: Block) -> tuple[Block, int]:
    """Cut a part of a text into pieces.

    Args:
        text: Any bytes.
        start: Where a piece starts.
        end: End of the text, after `start`.
        class_table: Class of every code point.
        block: Working memory; it is replaced by a larger one if a piece does not fit.

    Returns:
        The block with the starts of the pieces, relative to `start`, and their number, at least 1.
    """
    while True:
        size = min(len(block.starts) - SLACK, end - start)
        block.text[:size] = text[start : start + size]
        flag_starts(block, size, classify(block, size, class_table))
        if start + size == end:
            return block, collect_starts(block, size, size)
        # The last piece found is perhaps not complete.
        count = collect_starts(block, size, size - _LOOKAHEAD) - 1
        if count > 0:
            return block, count
        block = make_block(2 * (len(block.starts) - SLACK))
