"""An n-gram model over tokens: a baseline for the loss and the texts of a GPT."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np


class WittenBell:
    """An n-gram model, each order smoothed by the one below.

    The probability is (count + types x lower) / (total + types).
    Source: Witten and Bell 1991, in the interpolated form of Chen and Goodman 1999.

    Args:
        tokens: Training tokens.
        order: Length n of the n-grams; 3 is a trigram model.
        vocab_size: Number of token ids V.
    """

    def __init__(self, tokens: Sequence[int], order: int, vocab_size: int) -> None:
        self.vocab_size, self.order = vocab_size, order
        self.next_counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for i, token in enumerate(tokens):
            for n in range(min(order, i + 1)):
                self.next_counts[tuple(tokens[i - n : i])][token] += 1

    def distribution(self, history: Sequence[int]) -> np.ndarray:
        """Return the probabilities of the next token, float64[V]."""
        probabilities = np.full(self.vocab_size, 1 / self.vocab_size)
        for n in range(min(self.order, len(history) + 1)):
            counts = self.next_counts.get(tuple(history[len(history) - n :]))
            if counts:
                probabilities *= len(counts)
                probabilities[list(counts)] += list(counts.values())
                probabilities /= counts.total() + len(counts)
        return probabilities

    def probability(self, token: int, history: Sequence[int]) -> float:
        """Return one element of `distribution`, without computing the others."""
        probability = 1 / self.vocab_size
        for n in range(min(self.order, len(history) + 1)):
            counts = self.next_counts.get(tuple(history[len(history) - n :]))
            if counts:
                types = len(counts)
                probability = (counts[token] + types * probability) / (counts.total() + types)
        return probability

    def cross_entropy(self, tokens: Sequence[int]) -> float:
        """Return the mean cross-entropy of all tokens but the first, in nats."""
        logs = (
            math.log(self.probability(tokens[i], tokens[max(0, i - self.order + 1) : i]))
            for i in range(1, len(tokens))
        )
        return -sum(logs) / (len(tokens) - 1)

    def sample(self, start: int, end: int, max_tokens: int, top_p: float, seed: int) -> list[int]:
        """Sample tokens after `start` from the nucleus of mass top_p; stop before `end`."""
        random = np.random.default_rng(seed)
        tokens = [start]
        while len(tokens) <= max_tokens:
            p = self.distribution(tokens)
            order = np.argsort(-p, kind="stable")
            nucleus = order[np.cumsum(p[order]) - p[order] < top_p]
            token = int(random.choice(nucleus, p=p[nucleus] / p[nucleus].sum()))
            if token == end:
                break
            tokens.append(token)
        return tokens[1:]
