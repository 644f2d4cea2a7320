"""Minimal pairs as a test: is the right sentence more probable to a model than the wrong one?

A text counts as right if the sum of the log-probabilities of its tokens, as a document of its own,
is greater than that of the wrong text (Warstadt et al. 2020, "BLiMP: The Benchmark of Linguistic
Minimal Pairs for English", section 4). A model that knows nothing is right in half of the pairs.
"""

import functools
import math
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Bool, Float, Int

from valyrian_jax.config import ModelConfig
from valyrian_jax.data.rows import encode_rows, score_rows
from valyrian_jax.evaluation.ngram import WittenBell
from valyrian_jax.language.generator.paragraphs import split_words
from valyrian_jax.language.pairs.alteration import Pair
from valyrian_jax.model.gpt import forward
from valyrian_jax.model.jax_settings import pin_jax_settings
from valyrian_jax.model.loss import token_cross_entropy
from valyrian_jax.model.parameters import Params
from valyrian_jax.tokenizer import Tokenizer

Scorer = Callable[[Sequence[str]], npt.NDArray[np.float64]]
"""A function that returns the log-probability of each text, in nats."""

CHANCE = 0.5
_Z = 1.959964  # of 95%


class Accuracy(NamedTuple):
    """In how many pairs the right sentence is the more probable one.

    Attributes:
        pairs: Number of pairs.
        right: Number of them in which the right sentence is more probable.
    """

    pairs: int
    right: int

    @property
    def share(self) -> float:
        """The share of right pairs; NaN without pairs."""
        return self.right / self.pairs if self.pairs else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the share."""
        return wilson_interval(self.right, self.pairs)


def wilson_interval(successes: int, trials: int, z: float = _Z) -> tuple[float, float]:
    """Return the score interval of a share (Wilson 1927), which holds near 0 and 1 too.

    >>> [round(bound, 3) for bound in wilson_interval(9, 10)]
    [0.596, 0.982]

    Args:
        successes: Number of successes.
        trials: Number of trials; without any the interval is (0, 1).
        z: Quantile of the normal distribution; the default gives 95%.
    """
    if not trials:
        return 0.0, 1.0
    share, weight = successes / trials, z**2 / trials
    centre = share + weight / 2
    margin = z * math.sqrt(share * (1 - share) / trials + weight / trials / 4)
    low, high = ((centre + sign * margin) / (1 + weight) for sign in (-1, 1))
    return max(low, 0.0), min(high, 1.0)


def measure_accuracy(margins: npt.NDArray[np.float64]) -> Accuracy:
    """Return the accuracy for some margins; a tie is not right."""
    return Accuracy(len(margins), int((margins > 0).sum()))


def measure_margins(pairs: Sequence[Pair], score: Scorer) -> npt.NDArray[np.float64]:
    """Return by how much the right text of each pair is more probable, in nats."""
    scores = score([text for pair in pairs for text in pair.texts]).reshape(-1, 2)
    return scores[:, 0] - scores[:, 1]


def measure_rules(
    params: Params, config: ModelConfig, tokenizer: Tokenizer, pairs: Sequence[Pair]
) -> dict[str, float]:
    """Return the share of right pairs for every rule that has some."""
    margins = measure_margins(pairs, functools.partial(score_texts, params, config, tokenizer))
    rules = np.array([pair.rule for pair in pairs])
    names = dict.fromkeys(pair.rule for pair in pairs)
    return {rule: measure_accuracy(margins[rules == rule]).share for rule in names}


def fits_context(pair: Pair, tokenizer: Tokenizer, n_positions: int) -> bool:
    """Test whether a model can read both texts of a pair whole."""
    return all(len(tokenizer.encode(text)) <= n_positions for text in pair.texts)


def score_texts(
    params: Params, config: ModelConfig, tokenizer: Tokenizer, texts: Sequence[str]
) -> npt.NDArray[np.float64]:
    """Return the log-probability that a model gives to each text after <|endoftext|>.

    Args:
        params: Parameters of the model.
        config: Its shape.
        tokenizer: Its tokenizer.
        texts: Texts of at most n_positions tokens.
    """
    score_batch = functools.partial(_score_batch, params, config=config)
    return score_rows(score_batch, encode_rows(tokenizer, texts))


@pin_jax_settings()
@functools.partial(jax.jit, static_argnames="config")
def _score_batch(
    params: Params,
    tokens: Int[Array, "B W"],
    counted: Bool[Array, "B T"],
    config: ModelConfig,
) -> Float[Array, " B"]:
    logits = forward(params, tokens[:, :-1], config)
    return -jnp.sum(token_cross_entropy(logits, tokens[:, 1:]), axis=-1, where=counted)


def score_with_trigram(
    trigram: WittenBell, tokenizer: Tokenizer, texts: Sequence[str]
) -> npt.NDArray[np.float64]:
    """Return the log-probability that an n-gram model gives to each text after <|endoftext|>."""
    rows = ([tokenizer.end_of_text, *tokenizer.encode(text)] for text in texts)
    return np.array([-trigram.cross_entropy(ids) * (len(ids) - 1) for ids in rows])


def find_seen_pairs(pairs: Sequence[Pair], training: Collection[str]) -> list[bool]:
    """Return for each pair whether some training sentence has both its form and its governor.

    A pair without a governor is seen if a training sentence has its form.
    """
    wanted = {word.lower() for pair in pairs for word in (pair.form, pair.governor)}
    sentences: dict[str, set[int]] = {word: set() for word in wanted}
    for index, sentence in enumerate(training):
        for word in {word.lower() for word in split_words(sentence)} & wanted:
            sentences[word].add(index)
    return [
        bool(sentences[pair.form.lower()])
        if not pair.governor
        else not sentences[pair.form.lower()].isdisjoint(sentences[pair.governor.lower()])
        for pair in pairs
    ]
