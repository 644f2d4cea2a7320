"""The trainer of `bpe` compiled with Numba, for texts of many megabytes.

`bpe` explains the algorithm; tests compare this module with it. All words are one array of symbols,
linked both ways. The positions of every pair form a doubly linked list too, so a merge changes only
the positions that it touches. A pair of ids is one integer, left id << 32 | right id.
"""

import heapq
from typing import Any, NamedTuple

import numpy as np

from valyrian_jax.tokenizer.numba_pretokenizer import Bytes, Int32, Int64, UInt64, cut, jit
from valyrian_jax.tokenizer.numba_state import LINE_BYTES, find_line, find_pair, unpack

COMPILED_WITH = "numba_pretokenizer 834522140c27, numba_state 33e1fe8a93d7"


@jit
def count_pieces(text: Bytes, ends: Int64, state: UInt64) -> Int64:
    """Count the pieces of concatenated texts.

    A line of the state's cache counts a piece; a piece that is forgotten has a row for each time.

    Args:
        text: Any bytes.
        ends: End of each text.
        state: State with an empty cache.

    Returns:
        Start, end and number of occurrences of pieces [P, 3]; a piece may have several rows.
    """
    data = np.frombuffer(text, np.uint8)
    rows, used, start = np.empty((1 << 12, 3), np.int64), 0, 0
    parts = unpack(state)
    block, lines = parts.block, parts.lines.view(np.int64)
    for end in ends:
        while start < end:
            block, pieces = cut(data, start, end, parts.class_table, block)
            for piece in range(pieces):
                a, b = np.int64(block.starts[piece]), np.int64(block.starts[piece + 1])
                if b - a > LINE_BYTES:
                    rows[used], used = (start + a, start + b, 1), used + 1
                else:
                    word, is_known = find_line(block.words, a, b - a, parts)
                    line = word // 2
                    if is_known:
                        lines[line + 7] += 1
                    else:
                        lines[line + 5], lines[line + 6], lines[line + 7] = start + a, start + b, 1
                        if lines[-1] > 0:  # the piece that is forgotten
                            rows[used], used = lines[-3:], used + 1
                if used == len(rows):
                    rows = double_array(rows)
            start += block.starts[pieces]
    for line in range(0, len(lines) - 8, 8):
        if lines[line + 7] > 0:
            rows[used], used = lines[line + 5 : line + 8], used + 1
            if used == len(rows):
                rows = double_array(rows)
    return rows[:used]


class Words(NamedTuple):
    """All words, concatenated; arrays over positions [N], except `frequencies`."""

    symbols: Int32  # id; -1 before, between and after words, and where a symbol was merged away
    frequencies: Int64  # number of occurrences, by word
    word_of: Int32
    following: Int32  # position of the next symbol
    preceding: Int32
    next_same: Int32  # next position with the same pair; -1: none
    previous_same: Int32


class Pairs(NamedTuple):
    """All pairs seen so far, numbered in that order, and a hash table of their numbers."""

    slots: Int64  # pair; -1: none
    numbers: Int32  # by slot
    pairs: Int64
    totals: Int64  # number of occurrences
    heads: Int32  # first position of the list; -1: none
    mix: np.uint64


@jit
def read_pair(p: int, words: Words) -> np.int64:
    """Return the pair that begins at position p, or -1 at the end of a word."""
    left, right = np.int64(words.symbols[p]), np.int64(words.symbols[words.following[p]])
    return left << 32 | right if left >= 0 and right >= 0 else np.int64(-1)


@jit
def link_position(p: int, words: Words, pairs: Pairs, used: int) -> int:
    """Put position p at the head of its pair's list, and return the number of pairs seen."""
    pair = read_pair(p, words)
    if pair < 0:
        return used
    slot = find_pair(pair, pairs.slots, 1, pairs.mix)
    if pairs.slots[slot] < 0:
        pairs.slots[slot], pairs.numbers[slot] = pair, used
        pairs.pairs[used], pairs.totals[used], pairs.heads[used] = pair, 0, -1
        used += 1
    j = pairs.numbers[slot]
    head = pairs.heads[j]
    words.next_same[p], words.previous_same[p] = head, -1
    if head >= 0:
        words.previous_same[head] = p
    pairs.heads[j] = p
    pairs.totals[j] += words.frequencies[words.word_of[p]]
    return used


@jit
def unlink_position(p: int, words: Words, pairs: Pairs) -> None:
    """Remove position p from its pair's list."""
    pair = read_pair(p, words)
    if pair < 0:
        return
    j = pairs.numbers[find_pair(pair, pairs.slots, 1, pairs.mix)]
    after, before = words.next_same[p], words.previous_same[p]
    if before >= 0:
        words.next_same[before] = after
    else:
        pairs.heads[j] = after
    if after >= 0:
        words.previous_same[after] = before
    pairs.totals[j] -= words.frequencies[words.word_of[p]]


@jit
def merge_at(p: int, new_id: int, words: Words, pairs: Pairs, used: int) -> int:
    """Merge the symbols at p and after it; return the number of pairs seen, at most two more."""
    left, right = np.int64(words.preceding[p]), np.int64(words.following[p])
    unlink_position(left, words, pairs)
    unlink_position(p, words, pairs)
    unlink_position(right, words, pairs)
    after = words.following[right]
    words.symbols[p], words.symbols[right] = new_id, -1
    words.following[p], words.preceding[after] = after, p
    return link_position(p, words, pairs, link_position(left, words, pairs, used))


@jit
def double_array(array: Any) -> Any:
    """Return the array with twice the length."""
    longer = np.empty((2 * len(array), *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer


@jit
def reserve_pairs(pairs: Pairs, used: int) -> Pairs:
    """Return the table with room for two more pairs than the `used` ones."""
    if used + 2 <= len(pairs.pairs):
        return pairs
    size = 2 * len(pairs.slots)
    slots, numbers = np.full(size, -1, np.int64), np.zeros(size, np.int32)
    for j in range(used):
        slot = find_pair(pairs.pairs[j], slots, 1, pairs.mix)
        slots[slot], numbers[slot] = pairs.pairs[j], j
    longer = double_array(pairs.pairs), double_array(pairs.totals), double_array(pairs.heads)
    return Pairs(slots, numbers, longer[0], longer[1], longer[2], pairs.mix)


@jit
def index_pairs(words: Words, mix: np.uint64) -> tuple[Pairs, int]:
    """Return all pairs of the words with the lists of their positions, and the number of pairs."""
    capacity = 1 << 12
    pairs = Pairs(
        np.full(2 * capacity, -1, np.int64),
        np.zeros(2 * capacity, np.int32),
        np.empty(capacity, np.int64),
        np.empty(capacity, np.int64),
        np.empty(capacity, np.int32),
        mix,
    )
    used = 0
    for p in range(len(words.symbols) - 1):
        pairs = reserve_pairs(pairs, used)
        used = link_position(p, words, pairs, used)
    return pairs, used


@jit
def merge_everywhere(
    j: int, new_id: int, words: Words, pairs: Pairs, used: int
) -> tuple[Pairs, int]:
    """Merge every occurrence of pair j; return the pairs and their number."""
    pair = pairs.pairs[j]
    while pairs.heads[j] >= 0:
        p = np.int64(pairs.heads[j])
        # Among positions that overlap, the leftmost is merged first.
        while read_pair(words.preceding[p], words) == pair:
            p = np.int64(words.preceding[p])
        while read_pair(p, words) == pair:
            pairs = reserve_pairs(pairs, used)
            used = merge_at(p, new_id, words, pairs, used)
            p = np.int64(words.following[p])
    return pairs, used


@jit
def learn(
    symbols: Int32,
    word_of: Int32,
    frequencies: Int64,
    first_id: int,
    merge_count: int,
    mix: np.uint64,
) -> Int64:
    """Learn up to `merge_count` merges, as `bpe.learn` does.

    Args:
        symbols: Ids of all words, with -1 before, between and after them; overwritten.
        word_of: Word of each symbol.
        frequencies: Number of occurrences of each word.
        first_id: Id of the first new token.
        merge_count: Largest number of merges.
        mix: Multiplier of the hash; the result does not depend on it.

    Returns:
        The merged pairs in order.
    """
    N = len(symbols)
    following = np.arange(1, N + 1).astype(np.int32)
    preceding = np.arange(-1, N - 1).astype(np.int32)
    same = np.empty(N, np.int32), np.empty(N, np.int32)
    words = Words(symbols, frequencies, word_of, following, preceding, same[0], same[1])
    pairs, used = index_pairs(words, mix)
    heap = [(-pairs.totals[j], pairs.pairs[j], np.int64(j)) for j in range(used)]
    heapq.heapify(heap)

    learnt, count = np.empty(merge_count, np.int64), 0
    while count < merge_count and len(heap) > 0:
        negative_total, pair, j = heapq.heappop(heap)
        if pairs.totals[j] != -negative_total:  # outdated
            if pairs.totals[j] > 0:
                heapq.heappush(heap, (-pairs.totals[j], pair, j))
            continue
        first_new = used
        pairs, used = merge_everywhere(j, first_id + count, words, pairs, used)
        for new in range(first_new, used):
            if pairs.totals[new] > 0:
                heapq.heappush(heap, (-pairs.totals[new], pairs.pairs[new], np.int64(new)))
        learnt[count] = pair
        count += 1
    return learnt[:count]
