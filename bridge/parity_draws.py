"""Whether rounding explains why two runtimes drew different tokens.

Runtimes add in different orders, so a random number can fall on either side of the boundary between
two tokens, and a token at the edge of the nucleus can be in or out. The sampler of
`valyrian_jax.generation.sampler` then draws the other token if the logits change a little. This
module finds the least change, in float64.

If every logit changes by at most `change`, the weight of every token is bounded. The bounds tell
which tokens can pass the filters, which must pass them, and the range of every sum.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bridge.sampler import uniform
from valyrian_jax.bundle.language_model import LanguageModel
from valyrian_jax.bundle.text_generation import window_start
from valyrian_jax.config import SampleConfig

Array = npt.NDArray[Any]
SUM_ROUNDING = 1e-6  # largest error of a float32 sum of probabilities, as a share of the total
_HALVINGS = 20  # steps of the bisection for the least change


class Draw(NamedTuple):
    """Everything that decides which token is drawn."""

    logits: Array  # [V] of the reference, float64
    window: Sequence[int]  # tokens that gave them
    number: int  # index of the token, counted from 0 after the prompt
    sample: SampleConfig
    end_of_text: int  # token that ends a document


def explain_difference(
    model: LanguageModel,
    prompt: Sequence[int],
    texts: Sequence[Sequence[int]],
    sample: SampleConfig,
    tolerance: float,
) -> float:
    """Return the least change of the logits with which the sampler draws each of two texts.

    Args:
        model: The reference, whose logits decide which tokens can be drawn.
        prompt: Tokens before the texts.
        texts: New tokens of two runtimes; they differ.
        sample: Settings of the sampler; both were drawn with `sample.seed`.
        tolerance: Largest change, relative to the largest logit or to 1.

    Returns:
        The change, relative like the tolerance; infinity if it is above it.
    """
    one, other = texts
    pairs = enumerate(zip(one, other, strict=False))
    first = next((i for i, pair in pairs if pair[0] != pair[1]), None)
    if first is None:  # One is longer.
        return float("inf")
    return max(explain_text(model, prompt, text, first, sample, tolerance) for text in texts)


def explain_text(
    model: LanguageModel,
    prompt: Sequence[int],
    tokens: Sequence[int],
    first: int,
    sample: SampleConfig,
    tolerance: float,
) -> float:
    """Return the least change with which all tokens from index `first` on are drawn."""
    text, change, start, rows = [*prompt, *tokens], 0.0, -1, np.empty(0, np.float32)
    n_positions = model.config.n_positions
    for index in range(first, len(tokens)):
        count = len(prompt) + index
        if window_start(count, n_positions) != start:
            start = window_start(count, n_positions)
            rows = model.logits(text[start : start + n_positions])
        logits = rows[count - start - 1].astype(np.float64)
        draw = Draw(logits, text[start:count], index, sample, model.tokenizer.end_of_text)
        change = least_change(draw, tokens[index], change, tolerance)
    return change


def least_change(draw: Draw, token: int, smallest: float, tolerance: float) -> float:
    """Return the least change with which a token is drawn; infinity if it is above the tolerance.

    Changes are relative to the largest logit or to 1; none below `smallest` is tried.
    """
    unit = max(1.0, float(np.abs(draw.logits[np.isfinite(draw.logits)]).max()))

    def is_possible(change: float) -> bool:
        return can_draw(draw, token, change * unit, SUM_ROUNDING * change / tolerance)

    if smallest > tolerance or not is_possible(tolerance):
        return float("inf")
    if is_possible(smallest):
        return smallest
    low, high = smallest, tolerance
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_possible(middle) else (middle, high)
    return high


def can_draw(draw: Draw, token: int, change: float, rounding: float) -> bool:
    """Return whether a token can be drawn if no logit is off by more than `change`.

    Sums may be off by `rounding` as a share of the total.
    """
    low, high = (penalize(draw, draw.logits + shift) for shift in (-change, change))
    if draw.sample.temperature == 0:
        return bool(high[token] >= low.max())
    low, high = (np.exp((x - high.max()) / draw.sample.temperature) for x in (low, high))
    must_pass, can_pass = filter_tokens(low, high, draw.sample, rounding)
    least, most = np.where(must_pass, low, 0.0), np.where(can_pass, high, 0.0)
    u = uniform(draw.sample.seed, draw.number)
    # The range of the running sum: the least before the token, and the most through it.
    before, rest = least[:token].sum(), most[token:].sum()
    through, behind = most[: token + 1].sum(), least[token + 1 :].sum()
    begins = before <= (u + rounding) * (before + rest)
    ends = through >= (u - rounding) * (through + behind)
    return bool(most[token] > 0 and begins and ends)


def penalize(draw: Draw, logits: Array) -> Array:
    """Return the logits after the settings that come before the temperature."""
    logits, sample = logits.copy(), draw.sample
    if draw.number < sample.min_new_tokens:
        logits[draw.end_of_text] = -np.inf
    read = np.unique(draw.window)
    r = sample.repetition_penalty
    logits[read] = np.where(logits[read] > 0, logits[read] / r, logits[read] * r)
    return logits


def filter_tokens(
    low: Array, high: Array, sample: SampleConfig, rounding: float
) -> tuple[Array, Array]:
    """Return which tokens must pass the filters, and which can pass them, each bool [V].

    `low` and `high` bound the weight of every token. Sums may be off by `rounding` as a share of
    the total.
    """
    by_low, by_high = np.argsort(-low), np.argsort(-high)
    # How many tokens surely precede each, and how many can, counting the token itself.
    n_before = len(low) - np.searchsorted(low[by_low[::-1]], high, side="right")
    n_possible = len(high) - np.searchsorted(high[by_high[::-1]], low, side="left")
    must_pass = can_pass = np.ones(len(low), bool)
    if sample.top_k:
        must_pass, can_pass = n_possible <= sample.top_k, n_before < sample.top_k
    least, most = np.where(must_pass, low, 0.0), np.where(can_pass, high, 0.0)
    if sample.min_p:
        must_pass = must_pass & (low >= sample.min_p * high.max())
        can_pass = can_pass & (high >= sample.min_p * low.max())
    if sample.top_p < 1:
        before = running_sum(low[by_low])[n_before]
        rest = most.sum() - running_sum(most[by_low])[n_before]
        can_pass = can_pass & (before < (sample.top_p + rounding) * (before + rest))
        before = running_sum(most[by_high])[n_possible] - most
        rest = least.sum() - running_sum(least[by_high])[n_possible] + low
        is_below = before < (sample.top_p - rounding) * (before + rest)
        must_pass = must_pass & (is_below | (n_possible == 1))
    return must_pass, can_pass


def running_sum(values: Array) -> Array:
    """Return the sums of the first 0, 1, ... values."""
    return np.concatenate([[0.0], np.cumsum(values)])
