"""Chance that keeps account: every choice of the generator goes through `Chance.pick`, which adds up its information.

The sum over a text, `Chance.bits`, is -log2 of the probability of its derivation.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from math import log2
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")


class DeadEndError(Exception):
    """Nothing can be said from here: no word fits. The sentence is begun again."""


class WeightedChoice:
    """A source of choices.

    Args:
        choose: (items, weights) -> the index of one of them.
        can_say: whether any of these words can still be printed; who knows what must come out gives up early.

    Attributes:
        bits: information in bits of all choices so far.
    """

    def __init__(
        self,
        choose: Callable[[Sequence[Any], Sequence[float]], int],
        can_say: Callable[[Iterable[str]], bool] = lambda _: True,
    ) -> None:
        self._choose = choose
        self._can_say = can_say
        self.bits = 0.0

    def will_say(self, texts: Iterable[str]) -> None:
        """Declares that one of these texts will be printed as it is.

        Raises:
            DeadEndError: none of them can be.
        """
        if not self._can_say(texts):
            raise DeadEndError

    def pick(self, items: Sequence[T], weights: Sequence[float]) -> T:
        """One item, with probability proportional to its weight.

        Raises:
            DeadEndError: there is none.
        """
        if not items:
            raise DeadEndError
        index = self._choose(items, weights)
        self.bits -= log2(weights[index] / sum(weights))
        return items[index]

    def happens(self, probability: float) -> bool:
        """True with this probability."""
        return self.pick((True, False), (probability, 1 - probability))

    def pick_key(self, weights: Mapping[str, float]) -> str:
        """One key of a table of weights."""
        return self.pick(list(weights), list(weights.values()))


NO_CHOICE = WeightedChoice(lambda _items, _weights: 0)  # for who only asks what is possible


def seeded_choice(seed: int) -> WeightedChoice:
    """Reproducible choices: only `Random.random()`, whose values Python guarantees, and walks along running sums."""
    random = Random(seed).random

    def choose(items: Sequence[Any], weights: Sequence[float]) -> int:
        sums = list(accumulate(weights))
        return min(bisect_right(sums, random() * sums[-1]), len(items) - 1)

    return WeightedChoice(choose)


def zipf_weights(count: int, offset: float, exponent: float) -> list[float]:
    """Weights of `count` words from frequent to rare, summing to 1: the law of Zipf and Mandelbrot.

    The word of rank r = 1, 2 ... gets a weight proportional to (r + offset) ** -exponent (Mandelbrot 1953).
    """
    weights = [(rank + offset) ** -exponent for rank in range(1, count + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]
