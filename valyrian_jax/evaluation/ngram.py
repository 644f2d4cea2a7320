"""An n-gram model over tokens: a baseline for the loss and the texts of a GPT."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]


class Ngrams(NamedTuple):
    """The n-grams of one length in a text, in the order of their keys.

    The id of an n-gram is its index here. Its key is C x V + T, where C is the id of its first
    n - 1 tokens, 0 if there are none, and T is its last token. The id N is that of every n-gram
    that the text does not have.
    """

    keys: Int64  # [N + 1]; the last one is above all others
    starts: Int64  # [N + 2]: the sum of all counts before each n-gram


class WittenBell:
    """An n-gram model, each order smoothed by the one below.

    The probability is (count + types x lower) / (total + types).
    Source: Witten and Bell 1991, in the interpolated form of Chen and Goodman 1999.

    Args:
        tokens: Training tokens.
        order: Length n of the n-grams; 3 is a trigram model.
        vocab_size: Number of token ids V.
    """

    def __init__(self, tokens: npt.ArrayLike, order: int, vocab_size: int) -> None:
        self.vocab_size, self.levels = vocab_size, list[Ngrams]()
        tokens = np.asarray(tokens, np.int64)
        contexts = np.zeros(len(tokens), np.int64)
        for n in range(order):
            keys, contexts, counts = np.unique(
                contexts * vocab_size + tokens[n:], return_inverse=True, return_counts=True
            )
            keys = np.append(keys, np.iinfo(np.int64).max)
            self.levels.append(
                Ngrams(keys, np.concatenate([[0], np.cumsum(counts), [counts.sum()]]))
            )
            contexts = contexts[:-1]  # Each is the context of the next token.

    def distribution(self, history: Sequence[int]) -> np.ndarray:
        """Return the probabilities of the next token, float64[V]."""
        probabilities = np.full(self.vocab_size, 1 / self.vocab_size)
        for n, (keys, starts) in enumerate(self.levels[: len(history) + 1]):
            context = 0
            for i, token in enumerate(history[len(history) - n :]):
                context = int(self._find(i, context, token))
            first, last = self._find_range(n, context)
            if first < last:
                probabilities *= last - first
                following = keys[first:last] - context * self.vocab_size
                probabilities[following] += np.diff(starts[first : last + 1])
                probabilities /= starts[last] - starts[first] + last - first
        return probabilities

    def probability(self, token: int, history: Sequence[int]) -> float:
        """Return one element of `distribution`, without computing the others."""
        needed = history[max(0, len(history) - len(self.levels) + 1) :]
        return float(self.probabilities([*needed, token])[-1])

    def probabilities(self, tokens: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the probability of every token of a text, given those before it, float64[N]."""
        tokens = np.asarray(tokens, np.int64)
        probabilities = np.full(len(tokens), 1 / self.vocab_size)
        contexts = np.zeros(len(tokens), np.int64)
        for n, (_, starts) in enumerate(self.levels):
            first, last = self._find_range(n, contexts)
            ids = self._find(n, contexts, tokens[n:])
            counts, types = starts[ids + 1] - starts[ids], last - first
            total = starts[last] - starts[first]
            smoothed = (counts + types * probabilities[n:]) / np.maximum(total + types, 1)
            probabilities[n:] = np.where(types > 0, smoothed, probabilities[n:])
            contexts = ids[:-1]
        return probabilities

    def _find(self, n: int, contexts: npt.ArrayLike, tokens: npt.ArrayLike) -> Int64:
        """Return the id of each context of n tokens with a token after it."""
        keys = self.levels[n].keys
        wanted = np.asarray(contexts) * self.vocab_size + tokens
        ids = np.searchsorted(keys, wanted)
        return np.where(keys[ids] == wanted, ids, len(keys) - 1)

    def _find_range(self, n: int, contexts: npt.ArrayLike) -> tuple[Int64, Int64]:
        """Return the range of ids of the n-grams that continue each context: first and end."""
        keys, first = self.levels[n].keys, np.asarray(contexts) * self.vocab_size
        return np.searchsorted(keys, first), np.searchsorted(keys, first + self.vocab_size)

    def cross_entropy(self, tokens: npt.ArrayLike) -> float:
        """Return the mean cross-entropy of all tokens but the first, in nats."""
        return float(-np.log(self.probabilities(tokens)[1:]).mean())

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
