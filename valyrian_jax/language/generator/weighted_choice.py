"""Weighted random choices that add up their information."""

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import accumulate
from math import log2
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")


class DeadEndError(Exception):
    """No word fits after the choices so far, so the sentence has to be drawn again."""


class WeightedChoice:
    """A source of choices; the generator makes every choice through it.

    Args:
        choose: Function from (items, weights) to the index of one item.
        can_print: Function that returns whether the sentence can contain one of these texts. A
            caller that looks for one particular sentence uses it to abandon other derivations.
        sum_outcomes: Function from a procedure and its arguments to the probability of each of its
            outcomes; None to run procedures.

    Attributes:
        bits: Information of all choices so far: -log2 of the probability of the derivation.
    """

    def __init__(
        self,
        choose: Callable[[Sequence[Any], Sequence[float]], int],
        can_print: Callable[[Iterable[str]], bool] = lambda _: True,
        sum_outcomes: Callable[..., Mapping[Any, float]] | None = None,
    ) -> None:
        self._choose = choose
        self._can_print = can_print
        self._sum_outcomes = sum_outcomes
        self.bits = 0.0

    def expect(self, texts: Iterable[str]) -> None:
        """Declare that the sentence will contain one of these texts unchanged.

        Raises:
            DeadEndError: It can contain none of them.
        """
        if not self._can_print(texts):
            raise DeadEndError

    def pick(self, items: Sequence[T], weights: Sequence[float]) -> T:
        """Pick an item with probability proportional to its weight.

        Raises:
            DeadEndError: There are no items.
        """
        if not items:
            raise DeadEndError
        index = self._choose(items, weights)
        self.bits -= log2(weights[index] / sum(weights))
        return items[index]

    def run(self, procedure: Callable[..., T], *arguments: Hashable) -> T:
        """Return the outcome of a procedure that gets this source of choices and the arguments.

        A procedure is a piece of a derivation that depends on nothing else. To sum over all
        derivations, `sum_outcomes` finds its outcomes once for the same arguments.

        Raises:
            DeadEndError: It has no outcome.
        """
        if self._sum_outcomes is None:
            return procedure(self, *arguments)
        outcomes = self._sum_outcomes(procedure, *arguments)
        if not outcomes:
            raise DeadEndError
        items, probabilities = list(outcomes), list(outcomes.values())
        index = self._choose(items, probabilities)
        self.bits -= log2(probabilities[index])
        return items[index]

    def happens(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.pick((True, False), (probability, 1 - probability))

    def pick_key(self, weights: Mapping[str, float]) -> str:
        """Pick a key of a table of weights."""
        return self.pick(list(weights), list(weights.values()))


# For code that only asks what is possible.
NO_CHOICE = WeightedChoice(lambda _items, _weights: 0)


Chooser = Callable[[Sequence[Any], Sequence[float]], int]
"""A function from (items, weights) to the index of one item."""


def seeded_choice(seed: int) -> WeightedChoice:
    """Return reproducible choices."""
    return WeightedChoice(make_chooser(seed))


def make_chooser(seed: int) -> Chooser:
    """Return a function that chooses at random, and reproducibly.

    It uses only `Random.random()`, whose values Python guarantees, and walks along running sums.
    """
    random = Random(seed).random

    def choose(items: Sequence[Any], weights: Sequence[float]) -> int:
        sums = list(accumulate(weights))
        return min(bisect_right(sums, random() * sums[-1]), len(items) - 1)

    return choose


def zipf_weights(count: int, offset: float, exponent: float) -> list[float]:
    """Return `count` weights that sum to 1, by the Zipf-Mandelbrot law.

    The word of rank r = 1, 2 ... has a weight proportional to (r + offset) ** -exponent
    (Mandelbrot 1953).
    """
    weights = [(rank + offset) ** -exponent for rank in range(1, count + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]
