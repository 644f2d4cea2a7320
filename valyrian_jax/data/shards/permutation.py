"""A shuffle of any size that computes each position on its own: no table, no pass, no state.

A Feistel network turns any function into a bijection of k-bit numbers (Luby and Rackoff, "How to
construct pseudorandom permutations from pseudorandom functions", 1988). For a size that is not a
power of 2, results out of range go through again until they are in range, still a bijection
(cycle walking: Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). The round
function is the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", 2014). This is a good shuffle, not a cipher.
"""

import numpy as np
import numpy.typing as npt

UInt64 = npt.NDArray[np.uint64]

_ROUNDS = 8  # even; four suffice in theory, but theory does not cover halves of a few bits


def permute(indices: UInt64, size: int, seed: int, epoch: int) -> UInt64:
    """Return the items at some positions of an epoch's order.

    On average this takes at most two passes through the network, whatever the size.

    Args:
        indices: uint64[R], positions below `size`.
        size: Number of items, 1 to 2^62.
        seed: Seed of the order, below 2^64.
        epoch: Number of the epoch, below 2^64; each has its own order.

    Returns:
        uint64[R], items below `size`; over all positions each comes once.
    """
    bits = max((size - 1).bit_length(), 2)
    # `windows.sample_batch` uses only the last word of the counter, so it gets other numbers.
    raw = np.random.Philox(key=seed, counter=[0, 0, 1, epoch]).random_raw(_ROUNDS)
    keys = np.asarray(raw, np.uint64)
    items = _apply_network(indices.astype(np.uint64), bits, keys)
    while (outside := np.flatnonzero(items >= size)).size:
        items[outside] = _apply_network(items[outside], bits, keys)
    return items


def _apply_network(numbers: UInt64, bits: int, keys: UInt64) -> UInt64:
    """Map uint64[R] below 2^bits bijectively; for odd `bits` the halves differ by one bit."""
    low, high = np.uint64(bits - bits // 2), np.uint64(bits // 2)
    masks = [(np.uint64(1) << width) - np.uint64(1) for width in (high, low)]
    left, right = numbers >> low, numbers & masks[1]
    for number, key in enumerate(keys):
        left, right = right, left ^ (_mix(right ^ key) & masks[number % 2])
    return left << low | right


def _mix(numbers: UInt64) -> UInt64:
    """Make every bit of the result depend on every bit of the number."""
    numbers = (numbers ^ numbers >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ numbers >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return numbers ^ numbers >> np.uint64(31)
