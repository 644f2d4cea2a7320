"""Byte-pair encoding, as two pure functions: `learn` merges from counted words, `apply` them to one word.

Reference: Sennrich, Haddow and Birch 2016, on bytes as in Radford et al. 2019. The order is total: the most frequent
pair first, and of equally frequent ones the pair with the smaller ids. That is also the order of the `tokenizers`
package, so both learn the same merges.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

Pair = tuple[int, int]


def learn(words: Mapping[tuple[int, ...], int], first_id: int, count: int) -> list[Pair]:
    """Learn up to `count` merges; merge m makes the token with id first_id + m.

    Each merge touches only the words that hold its pair, found through an index, and the next pair comes from a heap
    whose outdated entries are put right when they surface.

    Args:
        words: how often each word (a tuple of token ids) occurs.
        first_id: id of the first new token.
        count: how many merges to learn.

    Returns:
        The merged pairs in order; fewer than `count` when no pair is left.
    """
    spelling = [list(word) for word in words]
    frequency = list(words.values())
    pair_counts: dict[Pair, int] = defaultdict(int)
    found_in: dict[Pair, set[int]] = defaultdict(set)
    for index, word in enumerate(spelling):
        for pair in pairwise(word):
            pair_counts[pair] += frequency[index]
            found_in[pair].add(index)
    heap = [(-n, pair) for pair, n in pair_counts.items()]
    heapq.heapify(heap)

    merges: list[Pair] = []
    while heap and len(merges) < count:
        negative, pair = heapq.heappop(heap)
        now = pair_counts[pair]
        if now != -negative:
            if now > 0:
                heapq.heappush(heap, (-now, pair))
            continue
        new_id = first_id + len(merges)
        merges.append(pair)
        grown: set[Pair] = set()
        for index in found_in.pop(pair):
            old, new = spelling[index], _replace(spelling[index], pair, new_id)
            spelling[index] = new
            for gone in pairwise(old):
                pair_counts[gone] -= frequency[index]
            for come in pairwise(new):
                pair_counts[come] += frequency[index]
                if new_id in come:
                    found_in[come].add(index)
                    grown.add(come)
        for come in grown:
            heapq.heappush(heap, (-pair_counts[come], come))
        del pair_counts[pair]
    return merges


def _replace(word: Sequence[int], pair: Pair, new_id: int) -> list[int]:
    """Put new_id for every occurrence of the pair, from left to right."""
    out: list[int] = []
    i = 0
    while i < len(word):
        if i + 1 < len(word) and (word[i], word[i + 1]) == pair:
            out.append(new_id)
            i += 2
        else:
            out.append(word[i])
            i += 1
    return out


def apply(word: Iterable[int], merges: Mapping[Pair, tuple[int, int]]) -> list[int]:
    """Merge one word: always the pair learnt first, and of equal ones the leftmost. O(n log n), no recursion.

    The word is a doubly linked list over its positions; the heap holds candidate pairs by (rank, left position).

    Args:
        word: token ids of the single bytes.
        merges: pair -> (rank, id of the merged token).

    Returns:
        The token ids after all merges.
    """
    ids = list(word)
    end = len(ids)
    following = list(range(1, end + 1))
    preceding = list(range(-1, end - 1))
    heap = [(merges[pair][0], i) for i, pair in enumerate(pairwise(ids)) if pair in merges]
    heapq.heapify(heap)
    dead = -1
    while heap:
        rank, left = heapq.heappop(heap)
        right = following[left]
        if ids[left] == dead or right == end:
            continue
        found = merges.get((ids[left], ids[right]))
        if found is None or found[0] != rank:  # the pair that was here has been merged away
            continue
        ids[left], ids[right] = found[1], dead
        after = following[left] = following[right]
        before = preceding[left]
        if after != end:
            preceding[after] = left
            if (pair := (ids[left], ids[after])) in merges:
                heapq.heappush(heap, (merges[pair][0], left))
        if before >= 0 and (pair := (ids[before], ids[left])) in merges:
            heapq.heappush(heap, (merges[pair][0], before))
    return [i for i in ids if i != dead]
