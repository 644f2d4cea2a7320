"""An n-gram model over tokens: what a GPT has to beat, and what its samples are compared with."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np


class WittenBell:
    """n-gram probabilities, each order smoothed by the one below: (count + types x lower) / (total + types).

    Source: Witten and Bell 1991, in the interpolated form of Chen and Goodman 1999.

    Args:
        tokens: to learn from.
        order: 3 for a trigram.
        vocab_size: V.
    """

    def __init__(self, tokens: Sequence[int], order: int, vocab_size: int) -> None:
        self.vocab_size, self.order = vocab_size, order
        self.following: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for i, token in enumerate(tokens):
            for n in range(min(order, i + 1)):
                self.following[tuple(tokens[i - n : i])][token] += 1

    def distribution(self, history: Sequence[int]) -> np.ndarray:
        """float64[V]: probabilities of the next token."""
        found = np.full(self.vocab_size, 1 / self.vocab_size)
        for n in range(min(self.order, len(history) + 1)):
            counts = self.following.get(tuple(history[len(history) - n :]))
            if counts:
                found *= len(counts)
                found[list(counts)] += list(counts.values())
                found /= counts.total() + len(counts)
        return found

    def probability(self, token: int, history: Sequence[int]) -> float:
        """The probability of one token."""
        found = 1 / self.vocab_size
        for n in range(min(self.order, len(history) + 1)):
            counts = self.following.get(tuple(history[len(history) - n :]))
            if counts:
                found = (counts[token] + len(counts) * found) / (counts.total() + len(counts))
        return found

    def nats(self, tokens: Sequence[int]) -> float:
        """Mean cross-entropy of all tokens but the first, each after its full history."""
        logs = (
            math.log(self.probability(tokens[i], tokens[max(0, i - self.order + 1) : i]))
            for i in range(1, len(tokens))
        )
        return -sum(logs) / (len(tokens) - 1)

    def sample(self, start: int, end: int, most: int, top_p: float, seed: int) -> list[int]:
        """Draw tokens after `start` until `end` (left out) or `most` of them, from the nucleus of mass top_p."""
        random = np.random.default_rng(seed)
        row = [start]
        while len(row) <= most:
            p = self.distribution(row)
            order = np.argsort(-p, kind="stable")
            kept = order[np.cumsum(p[order]) - p[order] < top_p]
            token = int(random.choice(kept, p=p[kept] / p[kept].sum()))
            if token == end:
                break
            row.append(token)
        return row[1:]
