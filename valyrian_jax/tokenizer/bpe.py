"""Byte-pair encoding as two pure functions: `learn` finds merges, `apply` uses them on one word.

Reference: Sennrich, Haddow and Birch 2016, on bytes as in Radford et al. 2019. The order of merges
is total: the most frequent pair first, and among equally frequent pairs the one with the smaller
ids. The `tokenizers` package uses the same order, so both learn the same merges.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

Pair = tuple[int, int]


def learn(words: Mapping[tuple[int, ...], int], first_id: int, count: int) -> list[Pair]:
    """Learn up to `count` merges; merge m makes the token with id first_id + m.

    An index names the words that contain a pair, so a merge touches only those. The next pair comes
    from a heap; an outdated entry is corrected when it reaches the top.

    Args:
        words: Number of occurrences of each word, which is a tuple of token ids.
        first_id: Id of the first new token.
        count: Largest number of merges.

    Returns:
        The merged pairs in order; fewer than `count` if no pair is left.
    """
    # A word is a string with one character per token, so str.replace merges from left to right.
    spellings = ["".join(map(chr, word)) for word in words]
    frequencies = list(words.values())
    pair_counts, words_with = _index_pairs(spellings, frequencies)
    heap = [(-n, pair) for pair, n in pair_counts.items()]
    heapq.heapify(heap)

    merges: list[Pair] = []
    while heap and len(merges) < count:
        negative_count, pair = heapq.heappop(heap)
        pair_count = pair_counts[pair]
        if pair_count != -negative_count:
            if pair_count > 0:
                heapq.heappush(heap, (-pair_count, pair))
            continue
        merged, new = "".join(pair), chr(first_id + len(merges))
        merges.append((ord(pair[0]), ord(pair[1])))
        new_pairs: set[tuple[str, str]] = set()
        for index in words_with.pop(pair):
            before, after = spellings[index], spellings[index].replace(merged, new)
            spellings[index] = after
            for old_pair in pairwise(before):
                pair_counts[old_pair] -= frequencies[index]
            for new_pair in pairwise(after):
                pair_counts[new_pair] += frequencies[index]
                if new in new_pair:
                    words_with[new_pair].add(index)
                    new_pairs.add(new_pair)
        for new_pair in new_pairs:
            heapq.heappush(heap, (-pair_counts[new_pair], new_pair))
        del pair_counts[pair]
    return merges


def _index_pairs(
    spellings: Sequence[str], frequencies: Sequence[int]
) -> tuple[defaultdict[tuple[str, str], int], defaultdict[tuple[str, str], set[int]]]:
    """Count the pairs of tokens in all words, and list the words that contain each."""
    counts: defaultdict[tuple[str, str], int] = defaultdict(int)
    words_with: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for index, word in enumerate(spellings):
        for pair in pairwise(word):
            counts[pair] += frequencies[index]
            words_with[pair].add(index)
    return counts, words_with


def apply(word: Iterable[int], merges: Mapping[Pair, tuple[int, int]]) -> list[int]:
    """Merge one word: always the pair learnt first, and among equal pairs the leftmost.

    The word is a doubly linked list over its positions, and a heap holds the candidates as
    (rank, left position), so the cost is O(n log n).

    Args:
        word: Token ids of the single bytes.
        merges: Rank of each pair, and id of the token that it becomes.

    Returns:
        The token ids after all merges.
    """
    ids = list(word)
    end = len(ids)
    following = list(range(1, end + 1))
    preceding = list(range(-1, end - 1))
    heap = [(merges[pair][0], i) for i, pair in enumerate(pairwise(ids)) if pair in merges]
    heapq.heapify(heap)
    removed = -1
    while heap:
        rank, left = heapq.heappop(heap)
        right = following[left]
        if ids[left] == removed or right == end:
            continue
        merge = merges.get((ids[left], ids[right]))
        if merge is None or merge[0] != rank:  # another merge has replaced the pair
            continue
        ids[left], ids[right] = merge[1], removed
        after = following[left] = following[right]
        before = preceding[left]
        if after != end:
            preceding[after] = left
            if (pair := (ids[left], ids[after])) in merges:
                heapq.heappush(heap, (merges[pair][0], left))
        if before >= 0 and (pair := (ids[before], ids[left])) in merges:
            heapq.heappush(heap, (merges[pair][0], before))
    return [i for i in ids if i != removed]
