"""The fast algorithms give the results of slow, obviously correct ones."""

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from valyrian_jax.tokenizer import bpe

WORDS = st.dictionaries(
    st.lists(st.integers(0, 3), min_size=1, max_size=9).map(tuple), st.integers(1, 4), max_size=12
)


def replace_pair(word: tuple[int, ...], pair: bpe.Pair, new: int) -> tuple[int, ...]:
    ids: list[int] = []
    for i in word:
        if ids and (ids[-1], i) == pair:
            ids[-1] = new
        else:
            ids.append(i)
    return tuple(ids)


def learn_slowly(words: dict[tuple[int, ...], int], first_id: int, count: int) -> list[bpe.Pair]:
    """Learn merges, counting every pair before each merge."""
    merges: list[bpe.Pair] = []
    spellings = list(words.items())
    while len(merges) < count:
        counts: Counter[bpe.Pair] = Counter()
        for word, n in spellings:
            for pair in pairwise(word):
                counts[pair] += n
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        spellings = [(replace_pair(word, best, first_id + len(merges)), n) for word, n in spellings]
        merges.append(best)
    return merges


def apply_slowly(word: list[int], merges: dict[bpe.Pair, tuple[int, int]]) -> list[int]:
    """Merge a word, searching for the best pair before each merge."""
    while candidates := [
        (merges[pair], i) for i, pair in enumerate(pairwise(word)) if pair in merges
    ]:
        (_, new), i = min(candidates)
        word = [*word[:i], new, *word[i + 2 :]]
    return word


@given(WORDS, st.integers(0, 12))
def test_learn_gives_the_merges_of_counting_before_each_merge(
    words: dict[tuple[int, ...], int], count: int
) -> None:
    assert bpe.learn(words, 4, count) == learn_slowly(words, 4, count)


@given(WORDS, st.lists(st.integers(0, 3), max_size=40))
def test_apply_gives_the_ids_of_searching_before_each_merge(
    words: dict[tuple[int, ...], int], word: list[int]
) -> None:
    merges = {pair: (rank, 4 + rank) for rank, pair in enumerate(bpe.learn(words, 4, 10))}
    assert bpe.apply(word, merges) == apply_slowly(word, merges)


def test_among_equally_frequent_pairs_the_smaller_one_is_merged() -> None:
    assert bpe.learn({(3, 1): 2, (1, 3): 2, (0, 9): 1}, 10, 1) == [(1, 3)]


def test_overlapping_pairs_are_merged_from_the_left() -> None:
    merges = {(0, 0): (0, 1), (1, 1): (1, 2)}
    assert bpe.apply([0] * 7, merges) == [2, 1, 0]
