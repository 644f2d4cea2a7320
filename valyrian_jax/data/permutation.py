"""A shuffle of any size that is computed place by place: no table, no pass over what is shuffled, no cursor.

A Feistel network turns any function into a bijection of numbers of k bits (Luby and Rackoff, "How to construct
pseudorandom permutations from pseudorandom functions", 1988). For a size that is no power of 2, what falls outside is
sent through again until it falls inside (cycle walking: Black and Rogaway, "Ciphers with arbitrary finite domains",
2002), which keeps it a bijection. The function within is the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast
splittable pseudorandom number generators", 2014). It is a good shuffle, and no cipher.
"""

import numpy as np
import numpy.typing as npt

UInt64 = npt.NDArray[np.uint64]

_ROUNDS = 8  # even; four are pseudorandom in theory, but halves of a few bits are far from theory


def permute(indices: UInt64, size: int, seed: int, epoch: int) -> UInt64:
    """Where the things at some indices are in the order of an epoch.

    Args:
        indices: uint64[R], each below `size`.
        size: how many things are shuffled, 1 to 2^62.
        seed: of the order, below 2^64.
        epoch: each has an order of its own, below 2^64.

    Returns:
        uint64[R], each below `size`; over all indices every place comes once. On the average it takes at most two
        walks through the network, whatever the size.
    """
    bits = max((size - 1).bit_length(), 2)
    # data.batch counts in the last word alone, so these are other numbers than any of its own.
    keys = (
        np.random.Philox(key=seed, counter=[0, 0, 1, epoch]).random_raw(_ROUNDS).astype(np.uint64)
    )
    found = _network(indices.astype(np.uint64), bits, keys)
    while (outside := np.flatnonzero(found >= size)).size:
        found[outside] = _network(found[outside], bits, keys)
    return found


def _network(numbers: UInt64, bits: int, keys: UInt64) -> UInt64:
    """A bijection of uint64[R], each below 2^bits; if these are odd, one half has a bit more than the other."""
    low, high = np.uint64(bits - bits // 2), np.uint64(bits // 2)
    masks = [(np.uint64(1) << width) - np.uint64(1) for width in (high, low)]
    left, right = numbers >> low, numbers & masks[1]
    for number, key in enumerate(keys):
        left, right = right, left ^ (_mixed(right ^ key) & masks[number % 2])
    return left << low | right


def _mixed(numbers: UInt64) -> UInt64:
    """Every bit of the result depends on every bit of its number."""
    numbers = (numbers ^ numbers >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ numbers >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return numbers ^ numbers >> np.uint64(31)
