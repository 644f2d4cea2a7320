"""The shuffle: every place once, and in no order that one could see."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from valyrian_jax.data import permutation


def order(size: int, seed: int = 0, epoch: int = 0) -> list[int]:
    return permutation.permute(np.arange(size, dtype=np.uint64), size, seed, epoch).tolist()


@given(st.integers(1, 3000), st.integers(0, 2**32 - 1), st.integers(0, 2**40))
def test_every_place_comes_once(size: int, seed: int, epoch: int) -> None:
    assert sorted(order(size, seed, epoch)) == list(range(size))


@pytest.mark.parametrize("size", [*range(1, 70), 2**13 - 1, 2**13, 2**13 + 1, 2**18 + 1])
def test_every_place_comes_once_around_powers_of_two(size: int) -> None:
    assert sorted(order(size)) == list(range(size))


@pytest.mark.parametrize("size", [2**31 + 11, 2**40, 2**62])
def test_places_in_something_huge_are_inside_and_distinct(size: int) -> None:
    indices = np.concatenate([np.arange(500), size - 1 - np.arange(500)]).astype(np.uint64)
    found = permutation.permute(indices, size, 3, 5)
    assert len(np.unique(found)) == 1000
    assert found.max() < size
    assert abs(found.astype(float).mean() / size - 0.5) < 0.05


def test_an_order_is_a_function_of_seed_and_epoch_and_each_index_stands_alone() -> None:
    whole = order(1000, 1, 2)
    assert order(1000, 1, 2) == whole
    assert [
        int(permutation.permute(np.array([i], np.uint64), 1000, 1, 2)[0])
        for i in range(0, 1000, 97)
    ] == whole[::97]
    for other in (order(1000, 2, 2), order(1000, 1, 3)):
        assert (
            sum(a == b for a, b in zip(whole, other, strict=True)) < 10
        )  # one is expected by chance


def test_the_first_order_is_the_same_in_every_version() -> None:
    # A stored value of integers only: a change here changes every run on shards.
    assert order(10) == [1, 3, 7, 0, 9, 4, 6, 2, 5, 8]


@pytest.mark.parametrize("size", [5, 16, 60])
def test_an_index_goes_to_every_place_equally_often(size: int) -> None:
    index, each = np.array([1], np.uint64), 40
    found = [int(permutation.permute(index, size, seed, 0)[0]) for seed in range(each * size)]
    chi_square = float(((np.bincount(found, minlength=size) - each) ** 2 / each).sum())
    assert chi_square < size - 1 + 4.5 * (2 * (size - 1)) ** 0.5


def test_neighbours_are_parted_and_nothing_of_the_order_is_left() -> None:
    size = 4000
    found = np.array(order(size, 7), float)
    around = (np.arange(size) - (size - 1) / 2, found - found.mean())
    assert abs(np.corrcoef(around)[0, 1]) < 0.06  # a few times 1 / sqrt(size)
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.06
    steps = Counter(np.diff(found).tolist())
    assert steps.most_common(1)[0][1] < 12
    assert abs(np.abs(np.diff(found)).mean() / size - 1 / 3) < 0.02


def test_epochs_are_shuffled_apart() -> None:
    firsts = {order(50, 0, epoch)[0] for epoch in range(200)}
    assert len(firsts) > 40
