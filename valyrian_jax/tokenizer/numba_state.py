"""What compiled encoding works with, in one array of words, and the cache of pieces in it.

A call of compiled code takes longer the more arguments it has. So one array, the *state*, has all
that belongs to a vocabulary, the working memory, and the cache. Two threads must not share one.

A pair of ids is one integer, left id << 32 | right id. The table of merges has a pair and its
merge, rank << 32 | new id, in every slot. The cache has a line of 64 bytes for a piece:

    8 words of 4 bytes: the bytes of the piece, filled up with zeros
    1 word: the length of the piece, and from bit 8 the number of its ids
    7 words: the ids
"""

from typing import NamedTuple

import numpy as np

from valyrian_jax.tokenizer.numba_pretokenizer import (
    BLOCK,
    SLACK,
    Block,
    Bytes,
    Int32,
    Int64,
    UInt64,
    jit,
)

COMPILED_WITH = "numba_pretokenizer 834522140c27"

LINE_BYTES = 32  # of a piece
LINE_IDS = 7
SHORT = 64  # bytes of a piece up to which scanning is faster than a heap
_LINE_BITS = 17  # logarithm of the number of lines
_LAST_LINE = 8 << _LINE_BITS
_ROOM = BLOCK + SLACK

# Where the parts of a state begin.
_CLASSES = 0
_BYTE_IDS = _CLASSES + 0x110000 // 8
_TEXT = _BYTE_IDS + 256 // 2
_TEXT_CLASSES = _TEXT + _ROOM // 8
_FLAGS = _TEXT_CLASSES + _ROOM // 8
_STARTS = _FLAGS + _ROOM // 8
_VALUES = _STARTS + _ROOM // 2
_MIX = _VALUES + SHORT
_LINES = _MIX + 8 - _MIX % 8
_MERGES = _LINES + _LAST_LINE + 8

# MASKS[n] keeps the first n of 32 bytes.
MASKS = np.array(
    [[(1 << 8 * min(max(n - 8 * w, 0), 8)) - 1 for w in range(4)] for n in range(LINE_BYTES + 1)],
    np.uint64,
)


class State(NamedTuple):
    """The parts of a state."""

    class_table: Bytes
    byte_ids: Int32
    block: Block
    values: Int64  # of the pairs of a piece
    lines: UInt64  # the cache in words of 8 bytes
    line_words: Int32  # the same memory in words of 4 bytes
    merges: Int64
    mix: np.uint64


@jit
def unpack(state: UInt64) -> State:
    """Return views of the parts of a state."""
    words = state[_TEXT:_TEXT_CLASSES]
    block = Block(
        words,
        words.view(np.uint8),
        state[_TEXT_CLASSES:_FLAGS].view(np.uint8),
        state[_FLAGS:_STARTS].view(np.uint8),
        state[_STARTS:_VALUES].view(np.int32),
    )
    lines = state[_LINES:_MERGES]
    return State(
        state[_CLASSES:_BYTE_IDS].view(np.uint8),
        state[_BYTE_IDS:_TEXT].view(np.int32),
        block,
        state[_VALUES : _VALUES + SHORT].view(np.int64),
        lines,
        lines.view(np.int32),
        state[_MERGES:].view(np.int64),
        state[_MIX],
    )


@jit
def find_pair(pair: int, table: Int64, stride: int, mix: np.uint64) -> np.int64:
    """Return the index of a pair in a table, or of the empty slot (-1) for it.

    Args:
        pair: Two ids.
        table: The slots; their number is a power of two. Half of them or more are empty.
        stride: Words of a slot; the first one is the pair.
        mix: Odd multiplier of the hash.
    """
    mixed = np.uint64(pair) * mix
    mixed = (mixed ^ mixed >> np.uint64(32)) * mix
    slot = np.int64((mixed >> np.uint64(32)) * np.uint64(len(table) // stride) >> np.uint64(32))
    while table[slot * stride] != pair and table[slot * stride] >= 0:
        slot = (slot + 1) & (len(table) // stride - 1)
    return slot * stride


def make_state(
    class_table: Bytes, byte_ids: Int32, merges: Int64, merged_ids: Int64, mix: np.uint64
) -> UInt64:
    """Make a state with an empty cache.

    Args:
        class_table: Class of every code point.
        byte_ids: Id of every byte.
        merges: Pairs of ids [M, 2], in the order learnt.
        merged_ids: Token that each pair becomes [M].
        mix: Odd multiplier of the hash.
    """
    size = 1 << max(4, (2 * len(merges)).bit_length())
    state = np.zeros(_MERGES + 2 * size, np.uint64)
    state[_CLASSES:_BYTE_IDS] = class_table.view(np.uint64)
    state[_BYTE_IDS:_TEXT] = byte_ids.view(np.uint64)
    state[_MIX] = mix
    fill_merge_table(merges, merged_ids, state[_MERGES:].view(np.int64), mix)
    return state


@jit
def fill_merge_table(merges: Int64, merged_ids: Int64, table: Int64, mix: np.uint64) -> None:
    """Write all merges to an empty table."""
    table[:] = -1
    for rank in range(len(merges)):
        pair = merges[rank, 0] << 32 | merges[rank, 1]
        i = find_pair(pair, table, 2, mix)
        table[i], table[i + 1] = pair, rank << 32 | merged_ids[rank]


@jit
def find_line(words: UInt64, start: int, length: int, state: State) -> tuple[np.int64, bool]:
    """Look a piece up in the cache.

    Each piece has two lines where it can be. A new piece takes the first, whose piece moves to the
    second, whose piece moves to the last line of all, where nothing is found any more.

    Args:
        words: Text.
        start: First byte of the piece.
        length: Length of the piece, from 1 to LINE_BYTES.
        state: With the cache, which is changed.

    Returns:
        The first of the line's words of 4 bytes, and whether the piece was there already.
    """
    first, shift = start >> 3, np.uint64((start & 7) << 3)
    rest = np.uint64(63) - shift
    one = np.uint64(1)
    key0 = (words[first] >> shift | words[first + 1] << one << rest) & MASKS[length, 0]
    key1 = (words[first + 1] >> shift | words[first + 2] << one << rest) & MASKS[length, 1]
    key2 = (words[first + 2] >> shift | words[first + 3] << one << rest) & MASKS[length, 2]
    key3 = (words[first + 3] >> shift | words[first + 4] << one << rest) & MASKS[length, 3]
    mixed = key0 * np.uint64(0x9E3779B97F4A7C15) ^ key1 * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed ^= key2 * np.uint64(0xD6E8FEB86659FD93) ^ key3 * np.uint64(0xA0761D6478BD642F)
    line = np.int64(mixed >> np.uint64(65 - _LINE_BITS)) << 4  # in words of 8 bytes: two lines
    lines, line_words = state.lines, state.line_words
    for way in (line, line + 8):
        if (
            lines[way] == key0
            and lines[way + 1] == key1
            and lines[way + 2] == key2
            and lines[way + 3] == key3
            and line_words[2 * way + 8] & 0xFF == length
        ):
            return 2 * way, True
    for i in range(8):
        lines[_LAST_LINE + i] = lines[line + 8 + i]
        lines[line + 8 + i] = lines[line + i]
    lines[line], lines[line + 1], lines[line + 2], lines[line + 3] = key0, key1, key2, key3
    line_words[2 * line + 8] = length
    return 2 * line, False
