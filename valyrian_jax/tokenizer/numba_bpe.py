"""The encoder of `bpe` compiled with Numba; tests compare this module with it."""

import heapq

import numpy as np

from valyrian_jax.tokenizer.numba_pretokenizer import Bytes, Int32, Int64, UInt64, cut, jit
from valyrian_jax.tokenizer.numba_state import (
    LINE_BYTES,
    LINE_IDS,
    SHORT,
    State,
    find_line,
    find_pair,
    unpack,
)

COMPILED_WITH = "numba_pretokenizer 834522140c27, numba_state 33e1fe8a93d7"

_NO_MERGE = np.int64(1 << 62)


@jit
def find_merge(left: int, right: int, state: State) -> np.int64:
    """Return rank << 32 | new id of two ids, or _NO_MERGE."""
    pair = np.int64(left) << 32 | np.int64(right)
    i = find_pair(pair, state.merges, 2, state.mix)
    return state.merges[i + 1] if state.merges[i] == pair else _NO_MERGE


@jit
def apply_to_short(ids: Int32, end: int, state: State) -> int:
    """Merge the first `end` ids in place by scanning all pairs; return the new length."""
    values = state.values
    for i in range(end - 1):
        values[i] = find_merge(ids[i], ids[i + 1], state)
    while end > 1:
        best, left = values[0], 0
        for i in range(1, end - 1):
            if values[i] < best:
                best, left = values[i], i
        if best == _NO_MERGE:
            break
        end -= 1
        ids[left] = best & 0xFFFFFFFF
        for i in range(left + 1, end):
            ids[i] = ids[i + 1]
        for i in range(left + 1, end - 1):
            values[i] = values[i + 1]
        if left > 0:
            values[left - 1] = find_merge(ids[left - 1], ids[left], state)
        if left + 1 < end:
            values[left] = find_merge(ids[left], ids[left + 1], state)
    return end


@jit
def apply_to_long(ids: Int32, end: int, state: State) -> int:
    """Merge the first `end` ids in place, as `bpe.apply` does; return the new length."""
    following, preceding = np.arange(1, end + 1), np.arange(-1, end - 1)
    # Entries are (rank << 32 | new id, left position); the empty list gives Numba their type.
    heap = [(np.int64(0), np.int64(0)) for _ in range(0)]
    for i in range(end - 1):
        value = find_merge(ids[i], ids[i + 1], state)
        if value != _NO_MERGE:
            heap.append((value, np.int64(i)))
    heapq.heapify(heap)
    while len(heap) > 0:
        value, left = heapq.heappop(heap)
        right = following[left]
        # A rank belongs to one pair, so another value says that another merge replaced the pair.
        if ids[left] < 0 or right == end or find_merge(ids[left], ids[right], state) != value:
            continue
        ids[left], ids[right] = value & 0xFFFFFFFF, -1
        after = following[right]
        following[left] = after
        if after < end:
            preceding[after] = left
        for i in (preceding[left], left):
            if i >= 0 and following[i] < end:
                value = find_merge(ids[i], ids[following[i]], state)
                if value != _NO_MERGE:
                    heapq.heappush(heap, (value, np.int64(i)))
    length = 0
    for i in range(end):
        if ids[i] >= 0:
            ids[length] = ids[i]
            length += 1
    return length


@jit
def apply_merges(ids: Int32, end: int, state: State) -> int:
    """Merge the first `end` ids in place; return the new length."""
    if end <= SHORT:
        return apply_to_short(ids, end, state)
    return apply_to_long(ids, end, state)


@jit
def encode_text(text: Bytes, start: int, end: int, packed: UInt64, ids: Int32, filled: int) -> int:
    """Write the ids of text[start:end] from ids[filled] on; return the number of ids then."""
    state = unpack(packed)
    block, line_words, byte_ids = state.block, state.line_words, state.byte_ids
    while start < end:
        block, pieces = cut(text, start, end, state.class_table, block)
        words, data, starts = block.words, block.text, block.starts
        for piece in range(pieces):
            a = np.int64(starts[piece])
            length = starts[piece + 1] - a
            word, is_known = -1, False
            if length <= LINE_BYTES:
                word, is_known = find_line(words, a, length, state)
            if is_known:
                for i in range(LINE_IDS):  # a fixed number needs no branch
                    ids[filled + i] = line_words[word + 9 + i]
                filled += line_words[word + 8] >> 8
                continue
            for i in range(length):
                ids[filled + i] = byte_ids[data[a + i]]
            count = apply_merges(ids[filled:], length, state)
            if word >= 0 and count <= LINE_IDS:
                line_words[word + 8] |= count << 8
                for i in range(count):
                    line_words[word + 9 + i] = ids[filled + i]
            elif word >= 0:
                line_words[word + 8] = 0  # too many ids: the line is empty
            filled += count
        start += starts[pieces]
    return filled


@jit
def encode(text: Bytes, state: UInt64, ids: Int32) -> int:
    """Encode a text.

    Args:
        text: Any bytes.
        state: State of this thread.
        ids: Room for LINE_IDS more ids than the text has bytes.

    Returns:
        The number of ids written.
    """
    data = np.frombuffer(text, np.uint8)
    return encode_text(data, 0, len(data), state, ids, 0)


@jit
def encode_all(text: Bytes, ends: Int64, state: UInt64, ids: Int32) -> int:
    """Encode concatenated texts.

    Args:
        text: Any bytes.
        ends: End of each text; overwritten with the end of its ids.
        state: State of this thread.
        ids: Room for LINE_IDS more ids than the texts have bytes.

    Returns:
        The number of ids written.
    """
    data = np.frombuffer(text, np.uint8)
    start = filled = 0
    for i in range(len(ends)):
        filled = encode_text(data, start, ends[i], state, ids, filled)
        start, ends[i] = ends[i], filled
    return filled


@jit
def count_bytes(ids: Int64, offsets: Int64) -> int:
    """Return the number of bytes of some tokens, or -1 if an id is outside the vocabulary."""
    size = 0
    for token in ids:
        if not 0 <= token < len(offsets) - 1:
            return -1
        size += offsets[token + 1] - offsets[token]
    return size


@jit
def decode(ids: Int64, offsets: Int64, data: Bytes, out: Bytes) -> None:
    """Write the bytes of tokens.

    Args:
        ids: Token ids, all in the vocabulary.
        offsets: Where the bytes of each token begin in `data`, and the end of the last one.
        data: Bytes of all tokens and 8 more.
        out: Room for the bytes of the ids and 8 more.
    """
    filled = 0
    for token in ids:
        a, length = offsets[token], offsets[token + 1] - offsets[token]
        source, target = data[a : a + length + 8], out[filled : filled + length + 8]
        # LLVM copies eight bytes at once if all are read before the first is written.
        b0, b1, b2, b3 = source[0], source[1], source[2], source[3]
        b4, b5, b6, b7 = source[4], source[5], source[6], source[7]
        target[0], target[1], target[2], target[3] = b0, b1, b2, b3
        target[4], target[5], target[6], target[7] = b4, b5, b6, b7
        for i in range(8, length):
            target[i] = source[i]
        filled += length
