"""The same algorithms as in `bpe`, compiled with Numba for texts of many megabytes.

What they compute is told in `bpe`; tests hold this file to that one. `learn` keeps the places of every pair in a list,
linked both ways, so that a merge touches only what it changes.
"""

import heapq
from typing import Any, NamedTuple

import numpy as np

from valyrian_jax.tokenizer.numba_pretokenizer import (
    COLUMNS,
    COUNT,
    END,
    FIRST,
    KEY,
    START,
    Bytes,
    Int32,
    Int64,
    find_piece,
    home,
    jit,
    key_of,
    piece_end,
    with_space,
)


@jit
def find_pair(pair: int, pairs: Int64, mix: np.uint64) -> int:
    """The slot of a pair (left id << 32 | right id) in a table, or the empty one (-1) where it belongs."""
    mask = np.uint64(len(pairs) - 1)
    at = home(pair, len(pairs), mix)
    while pairs[at] != pair and pairs[at] >= 0:
        at = (at + np.uint64(1)) & mask
    return np.int64(at)


@jit
def merge_table(merges: Int64, made: Int32, mix: np.uint64) -> tuple[Int64, Int32, Int32]:
    """Merges [M, 2] in order, and what each makes, as a table: pairs, ranks, and what they make."""
    size = 1 << 4
    while size < 2 * len(merges):
        size *= 2
    pairs, ranks, becomes = (
        np.full(size, -1, np.int64),
        np.zeros(size, np.int32),
        np.zeros(size, np.int32),
    )
    for rank in range(len(merges)):
        pair = merges[rank, 0] << 32 | merges[rank, 1]
        at = find_pair(pair, pairs, mix)
        pairs[at], ranks[at], becomes[at] = pair, rank, made[rank]
    return pairs, ranks, becomes


@jit
def apply(ids: Int32, pairs: Int64, ranks: Int32, becomes: Int32, mix: np.uint64) -> int:
    """Merge the ids of one piece in place, as `bpe.apply` does; how many are left."""
    end = len(ids)
    following, preceding = np.arange(1, end + 1), np.arange(-1, end - 1)
    heap = [
        (np.int64(0), np.int64(0), np.int64(0)) for _ in range(0)
    ]  # (rank, left position, slot of the pair)
    for i in range(end - 1):
        at = find_pair(np.int64(ids[i]) << 32 | np.int64(ids[i + 1]), pairs, mix)
        if pairs[at] >= 0:
            heap.append((np.int64(ranks[at]), np.int64(i), at))
    heapq.heapify(heap)
    while len(heap) > 0:
        _, left, at = heapq.heappop(heap)
        right = following[left]
        if (
            ids[left] < 0
            or right == end
            or (np.int64(ids[left]) << 32 | np.int64(ids[right])) != pairs[at]
        ):
            continue
        ids[left], ids[right] = becomes[at], -1
        after = following[right]
        following[left] = after
        if after < end:
            preceding[after] = left
        for i in (preceding[left], left):
            if i >= 0 and following[i] < end:
                at = find_pair(np.int64(ids[i]) << 32 | np.int64(ids[following[i]]), pairs, mix)
                if pairs[at] >= 0:
                    heapq.heappush(heap, (np.int64(ranks[at]), np.int64(i), at))
    kept = 0
    for i in range(end):
        if ids[i] >= 0:
            ids[kept] = ids[i]
            kept += 1
    return kept


@jit
def encode(
    text: Bytes,
    cuts: Int64,
    classes: Bytes,
    byte_ids: Int32,
    pairs: Int64,
    ranks: Int32,
    becomes: Int32,
    mix: np.uint64,
) -> tuple[Int32, Int64]:
    """Token ids of texts that end at each of `cuts`, and where each one's ids end."""
    out, out_cuts = np.empty(len(text), np.int32), np.empty(len(cuts), np.int64)
    slots, pieces = with_space(np.empty(0, np.int32), np.empty((0, COLUMNS), np.int64), 0, mix)
    known = a = filled = 0
    for d in range(len(cuts)):
        end = cuts[d]
        while a < end:
            b = piece_end(text, a, end, classes)
            at = find_piece(text, a, b, slots, pieces, mix)
            k = slots[at]
            if k >= 0:
                first = pieces[k, FIRST]
                n = pieces[k, COUNT]
                for i in range(n):
                    out[filled + i] = out[first + i]
            else:
                for i in range(b - a):
                    out[filled + i] = byte_ids[text[a + i]]
                n = apply(out[filled : filled + b - a], pairs, ranks, becomes, mix)
                k = slots[at] = known
                pieces[k, KEY], pieces[k, START], pieces[k, END] = key_of(text, a, b, mix), a, b
                pieces[k, COUNT], pieces[k, FIRST] = n, filled
                known += 1
                slots, pieces = with_space(slots, pieces, known, mix)
            filled += n
            a = b
        out_cuts[d] = filled
    return out[:filled].copy(), out_cuts


class Places(NamedTuple):
    """All words, one behind the other, as lists over their places [N], and for every place the next of its pair."""

    symbols: Int32  # the id at a place; -1 before, between and after words, and where a symbol was merged away
    counts: Int64  # how often the place's word occurs, by word
    word_of: Int32
    following: Int32
    preceding: Int32
    after: Int32  # the next place with the same pair; -1: none
    before: Int32


class Pairs(NamedTuple):
    """The pairs met so far, numbered in that order, and a table to find the number of a pair."""

    slots: Int64  # pair, -1: none
    numbers: Int32
    pair: Int64
    total: Int64  # how often it occurs
    head: Int32  # its first place, -1: none
    mix: np.uint64


@jit
def pair_at(p: int, places: Places) -> int:
    """The pair (left id << 32 | right id) that begins at a place, or -1 at the end of a word."""
    left, right = np.int64(places.symbols[p]), np.int64(places.symbols[places.following[p]])
    return left << 32 | right if left >= 0 and right >= 0 else np.int64(-1)


@jit
def join(p: int, places: Places, pairs: Pairs, known: int) -> int:
    """Put a place at the head of its pair's list; how many pairs are known then."""
    pair = pair_at(p, places)
    if pair < 0:
        return known
    at = find_pair(pair, pairs.slots, pairs.mix)
    j = np.int64(pairs.numbers[at])
    if pairs.slots[at] < 0:
        j = known
        pairs.slots[at], pairs.numbers[at] = pair, j
        pairs.pair[j], pairs.total[j], pairs.head[j] = pair, 0, -1
        known += 1
    head = pairs.head[j]
    places.after[p], places.before[p] = head, -1
    if head >= 0:
        places.before[head] = p
    pairs.head[j] = p
    pairs.total[j] += places.counts[places.word_of[p]]
    return known


@jit
def leave(p: int, places: Places, pairs: Pairs) -> None:
    """Take a place out of its pair's list."""
    pair = pair_at(p, places)
    if pair < 0:
        return
    j = pairs.numbers[find_pair(pair, pairs.slots, pairs.mix)]
    after, before = places.after[p], places.before[p]
    if before >= 0:
        places.after[before] = after
    else:
        pairs.head[j] = after
    if after >= 0:
        places.before[after] = before
    pairs.total[j] -= places.counts[places.word_of[p]]


@jit
def longer(array: Any) -> Any:
    """The array with as much room again."""
    out = np.empty(2 * len(array), array.dtype)
    out[: len(array)] = array
    return out


@jit
def merge(p: int, new_id: int, places: Places, pairs: Pairs, known: int) -> int:
    """Make one symbol of those at a place and after it; how many pairs are known then, at most two more."""
    left, right = np.int64(places.preceding[p]), np.int64(places.following[p])
    leave(left, places, pairs)
    leave(p, places, pairs)
    leave(right, places, pairs)
    after = places.following[right]
    places.symbols[p], places.symbols[right] = new_id, -1
    places.following[p], places.preceding[after] = after, p
    return join(p, places, pairs, join(left, places, pairs, known))


@jit
def with_room(pairs: Pairs, known: int) -> Pairs:
    """Pairs with room for two more than are known."""
    if known + 2 <= len(pairs.pair):
        return pairs
    slots, numbers = (
        np.full(2 * len(pairs.slots), -1, np.int64),
        np.zeros(2 * len(pairs.slots), np.int32),
    )
    for j in range(known):
        at = find_pair(pairs.pair[j], slots, pairs.mix)
        slots[at], numbers[at] = pairs.pair[j], j
    return Pairs(
        slots, numbers, longer(pairs.pair), longer(pairs.total), longer(pairs.head), pairs.mix
    )


@jit
def learn(
    symbols: Int32, word_of: Int32, counts: Int64, first_id: int, merges: int, mix: np.uint64
) -> Int64:
    """Learn up to `merges` merges, as `bpe.learn` does.

    Args:
        symbols: the ids of all words, with -1 before, between and after them; changed.
        word_of: the word that each symbol belongs to.
        counts: how often each word occurs.
        first_id: id of the first new token.
        merges: how many to learn.
        mix: of the table of pairs; the result does not depend on it.

    Returns:
        The merged pairs in order, left id << 32 | right id.
    """
    N = len(symbols)
    following, preceding = (
        np.arange(1, N + 1).astype(np.int32),
        np.arange(-1, N - 1).astype(np.int32),
    )
    places = Places(
        symbols, counts, word_of, following, preceding, np.empty(N, np.int32), np.empty(N, np.int32)
    )
    room = 1 << 12
    pairs = Pairs(
        np.full(2 * room, -1, np.int64),
        np.zeros(2 * room, np.int32),
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty(room, np.int32),
        mix,
    )
    known = 0
    for p in range(N - 1):
        pairs = with_room(pairs, known)
        known = join(p, places, pairs, known)
    heap = [(-pairs.total[j], pairs.pair[j], np.int64(j)) for j in range(known)]
    heapq.heapify(heap)

    out, made = np.empty(merges, np.int64), 0
    while made < merges and len(heap) > 0:
        negative, pair, j = heapq.heappop(heap)
        if pairs.total[j] != -negative:  # out of date
            if pairs.total[j] > 0:
                heapq.heappush(heap, (-pairs.total[j], pair, j))
            continue
        seen = known
        while pairs.head[j] >= 0:
            p = np.int64(pairs.head[j])
            while (
                pair_at(preceding[p], places) == pair
            ):  # of places that overlap, the leftmost is merged first
                p = np.int64(preceding[p])
            while pair_at(p, places) == pair:
                pairs = with_room(pairs, known)
                known = merge(p, first_id + made, places, pairs, known)
                p = np.int64(following[p])
        for new in range(seen, known):
            if pairs.total[new] > 0:
                heapq.heappush(heap, (-pairs.total[new], pairs.pair[new], np.int64(new)))
        out[made] = pair
        made += 1
    return out[:made]
