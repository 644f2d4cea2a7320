"""The shuffle: a permutation without visible order."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from valyrian_jax.data.shards.permutation import permute


def permute_all(size: int, seed: int = 0, epoch: int = 0) -> list[int]:
    return permute(np.arange(size, dtype=np.uint64), size, seed, epoch).tolist()


@given(st.integers(1, 3000), st.integers(0, 2**32 - 1), st.integers(0, 2**40))
def test_every_item_comes_once(size: int, seed: int, epoch: int) -> None:
    assert sorted(permute_all(size, seed, epoch)) == list(range(size))


@pytest.mark.parametrize("size", [*range(1, 70), 2**13 - 1, 2**13, 2**13 + 1, 2**18 + 1])
def test_every_item_comes_once_around_powers_of_two(size: int) -> None:
    assert sorted(permute_all(size)) == list(range(size))


@pytest.mark.parametrize("size", [2**31 + 11, 2**40, 2**62])
def test_items_of_a_huge_shuffle_are_in_range_and_distinct(size: int) -> None:
    indices = np.concatenate([np.arange(500), size - 1 - np.arange(500)]).astype(np.uint64)
    items = permute(indices, size, 3, 5)
    assert len(np.unique(items)) == 1000
    assert items.max() < size
    assert abs(items.astype(float).mean() / size - 0.5) < 0.05


def test_an_order_depends_on_seed_and_epoch_and_items_are_computed_alone() -> None:
    whole = permute_all(1000, 1, 2)
    assert permute_all(1000, 1, 2) == whole
    alone = [permute(np.array([i], np.uint64), 1000, 1, 2)[0] for i in range(0, 1000, 97)]
    assert alone == whole[::97]
    for other in (permute_all(1000, 2, 2), permute_all(1000, 1, 3)):
        equal = sum(a == b for a, b in zip(whole, other, strict=True))
        assert equal < 10  # one is expected by chance


def test_the_first_order_is_the_same_in_every_version() -> None:
    # A stored value of integers only: a change here changes every run on shards.
    assert permute_all(10) == [1, 3, 7, 0, 9, 4, 6, 2, 5, 8]


@pytest.mark.parametrize("size", [5, 16, 60])
def test_a_position_gets_every_item_equally_often(size: int) -> None:
    index, repeats = np.array([1], np.uint64), 40
    items = [int(permute(index, size, seed, 0)[0]) for seed in range(repeats * size)]
    chi_square = float(((np.bincount(items, minlength=size) - repeats) ** 2 / repeats).sum())
    assert chi_square < size - 1 + 4.5 * (2 * (size - 1)) ** 0.5


def test_neighbours_are_separated_and_uncorrelated() -> None:
    size = 4000
    items = np.array(permute_all(size, 7), float)
    centred = (np.arange(size) - (size - 1) / 2, items - items.mean())
    assert abs(np.corrcoef(centred)[0, 1]) < 0.06  # a few times 1 / sqrt(size)
    assert abs(np.corrcoef(items[:-1], items[1:])[0, 1]) < 0.06
    steps = Counter(np.diff(items).tolist())
    assert steps.most_common(1)[0][1] < 12
    assert abs(np.abs(np.diff(items)).mean() / size - 1 / 3) < 0.02


def test_every_epoch_has_its_own_order() -> None:
    first_items = {permute_all(50, 0, epoch)[0] for epoch in range(200)}
    assert len(first_items) > 40
