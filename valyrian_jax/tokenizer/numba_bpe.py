"""The encoder of `bpe` compiled with Numba, for texts of many megabytes.

`bpe` explains the algorithm; tests compare this module with it. A pair of ids is one integer,
left id << 32 | right id.
"""

import heapq

import numpy as np

from valyrian_jax.tokenizer.numba_pretokenizer import (
    COLUMNS,
    COUNT,
    END,
    IDS_START,
    KEY,
    START,
    Bytes,
    Int32,
    Int64,
    choose_first_slot,
    find_piece,
    find_piece_end,
    jit,
    make_key,
    reserve_row,
)


@jit
def find_pair(pair: int, pairs: Int64, mix: np.uint64) -> int:
    """Return the slot of a pair in a table, or the empty slot (-1) for it."""
    mask = np.uint64(len(pairs) - 1)
    slot = choose_first_slot(pair, len(pairs), mix)
    while pairs[slot] != pair and pairs[slot] >= 0:
        slot = (slot + np.uint64(1)) & mask
    return np.int64(slot)


@jit
def make_merge_table(
    merges: Int64, merged_ids: Int32, mix: np.uint64
) -> tuple[Int64, Int32, Int32]:
    """Make a hash table of merges.

    Args:
        merges: Pairs of ids [M, 2], in the order learnt.
        merged_ids: Token that each pair becomes [M].
        mix: Multiplier of the hash.

    Returns:
        For each slot: the pair or -1, its rank, the token that it becomes.
    """
    size = 1 << 4
    while size < 2 * len(merges):
        size *= 2
    pairs = np.full(size, -1, np.int64)
    ranks, results = np.zeros(size, np.int32), np.zeros(size, np.int32)
    for rank in range(len(merges)):
        pair = merges[rank, 0] << 32 | merges[rank, 1]
        slot = find_pair(pair, pairs, mix)
        pairs[slot], ranks[slot], results[slot] = pair, rank, merged_ids[rank]
    return pairs, ranks, results


@jit
def apply(ids: Int32, pairs: Int64, ranks: Int32, results: Int32, mix: np.uint64) -> int:
    """Merge the ids of one piece in place, as `bpe.apply` does, and return the new length."""
    end = len(ids)
    following, preceding = np.arange(1, end + 1), np.arange(-1, end - 1)
    # Entries are (rank, left position, slot of the pair); the empty list gives Numba their types.
    heap = [(np.int64(0), np.int64(0), np.int64(0)) for _ in range(0)]
    for i in range(end - 1):
        slot = find_pair(np.int64(ids[i]) << 32 | np.int64(ids[i + 1]), pairs, mix)
        if pairs[slot] >= 0:
            heap.append((np.int64(ranks[slot]), np.int64(i), slot))
    heapq.heapify(heap)
    while len(heap) > 0:
        _, left, slot = heapq.heappop(heap)
        right = following[left]
        if ids[left] < 0 or right == end:
            continue
        if np.int64(ids[left]) << 32 | np.int64(ids[right]) != pairs[slot]:
            continue
        ids[left], ids[right] = results[slot], -1
        after = following[right]
        following[left] = after
        if after < end:
            preceding[after] = left
        for i in (preceding[left], left):
            if i >= 0 and following[i] < end:
                pair = np.int64(ids[i]) << 32 | np.int64(ids[following[i]])
                slot = find_pair(pair, pairs, mix)
                if pairs[slot] >= 0:
                    heapq.heappush(heap, (np.int64(ranks[slot]), np.int64(i), slot))
    length = 0
    for i in range(end):
        if ids[i] >= 0:
            ids[length] = ids[i]
            length += 1
    return length


@jit
def encode(
    text: Bytes,
    text_ends: Int64,
    classes: Bytes,
    byte_ids: Int32,
    pairs: Int64,
    ranks: Int32,
    results: Int32,
    mix: np.uint64,
) -> tuple[Int32, Int64]:
    """Return the token ids of concatenated texts, and the end of each text in them."""
    ids, ids_ends = np.empty(len(text), np.int32), np.empty(len(text_ends), np.int64)
    slots, pieces = reserve_row(np.empty(0, np.int32), np.empty((0, COLUMNS), np.int64), 0, mix)
    used = a = filled = 0
    for index in range(len(text_ends)):
        text_end = text_ends[index]
        while a < text_end:
            b = find_piece_end(text, a, text_end, classes)
            slot = find_piece(text, a, b, slots, pieces, mix)
            row = slots[slot]
            if row >= 0:
                start = pieces[row, IDS_START]
                n = pieces[row, COUNT]
                for i in range(n):
                    ids[filled + i] = ids[start + i]
            else:
                for i in range(b - a):
                    ids[filled + i] = byte_ids[text[a + i]]
                n = apply(ids[filled : filled + b - a], pairs, ranks, results, mix)
                row = slots[slot] = used
                pieces[row, KEY] = make_key(text, a, b, mix)
                pieces[row, START], pieces[row, END] = a, b
                pieces[row, COUNT], pieces[row, IDS_START] = n, filled
                used += 1
                slots, pieces = reserve_row(slots, pieces, used, mix)
            filled += n
            a = b
        ids_ends[index] = filled
    return ids[:filled].copy(), ids_ends
