"""The sampler; every runtime implements the same steps, so the same seed gives the same text.

Logits in float32 -> no `<|endoftext|>` before `min_new_tokens` -> repetition penalty over the
tokens of the window that the model reads -> temperature (0: the most probable token, the lowest id
on ties) -> top-k -> softmax -> min-p (Nguyen et al. 2024: drop a token less probable than p times
the most probable one) -> nucleus (Holtzman et al. 2020: in descending order of probability, ties by
lower id, keep a token while the probability before it is below p) -> draw. Nothing is renormalised
after the softmax. The draw uses one uniform number per token, a function of the seed and the
token's index: walk the kept tokens in id order and take the first whose running sum exceeds that
number times the total.

A text ends before `<|endoftext|>`, before the first stop string in the bytes of its new tokens, or
after `max_new_tokens`.

Runtimes add in different orders, so two texts can differ where the number falls within about 1e-6
of a boundary between tokens. Walking in id order keeps this rare, because rounding cannot change
that order.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from valyrian_jax.model.jax_settings import make_key

Scalar = Float[Array, ""] | float
Integer = Int[Array, ""] | int


class SamplingParams(NamedTuple):
    """Settings of the sampler for B rows of tokens; `end_of_text` is the id of `<|endoftext|>`."""

    seeds: UInt32[Array, " B"]
    temperature: Scalar
    top_k: Integer
    top_p: Scalar
    min_p: Scalar = 0.0
    repetition_penalty: Scalar = 1.0
    min_new_tokens: Integer = 0
    end_of_text: Integer = -1


def sample_tokens(
    logits: Float[Array, "B V"],
    params: SamplingParams,
    index: Integer,
    in_window: Bool[Array, "B V"],
) -> Int[Array, " B"]:
    """Sample token `index` of every row; the index counts new tokens, without the prompt.

    Args:
        logits: Logits of every row.
        params: Seeds and settings.
        index: Number of tokens generated before.
        in_window: Which tokens occur in the window that gave the logits.

    Returns:
        The tokens; -1 where the logits are not finite (a single one may be minus infinity).
    """
    is_finite = jnp.isfinite(jnp.max(logits, axis=-1))  # The maximum of NaN is NaN.
    logits = logits.astype(jnp.float32)
    logits = forbid_end_of_text(logits, params.end_of_text, index < params.min_new_tokens)
    logits = penalize(logits, in_window, params.repetition_penalty)
    sample_rows = jax.vmap(sample_token, in_axes=(0, 0, None, None, None, None, None))
    settings = params.temperature, params.top_k, params.top_p, params.min_p
    return jnp.where(is_finite, sample_rows(logits, params.seeds, index, *settings), -1)


def forbid_end_of_text(
    logits: Float[Array, "B V"], end_of_text: Integer, is_forbidden: Bool[Array, ""] | bool
) -> Float[Array, "B V"]:
    """Set the logit of `<|endoftext|>` to minus infinity if it is forbidden."""
    is_end = jnp.arange(logits.shape[-1]) == end_of_text
    return jnp.where(is_end & is_forbidden, -jnp.inf, logits)


def penalize(
    logits: Float[Array, "B V"], in_window: Bool[Array, "B V"], penalty: Scalar
) -> Float[Array, "B V"]:
    """Make the tokens of the window less probable, if the penalty is above 1 (Keskar et al. 2019).

    A positive logit is divided by the penalty, another one multiplied.
    """
    penalized = jnp.where(logits > 0, logits / penalty, logits * penalty)
    return jnp.where(in_window, penalized, logits)


def sample_token(
    logits: Float[Array, " V"],
    seed: UInt32[Array, ""],
    index: Integer,
    temperature: Scalar,
    top_k: Integer,
    top_p: Scalar,
    min_p: Scalar = 0.0,
) -> Int[Array, ""]:
    """Sample token `index` of a generation; -1 if the logits are not finite."""
    divisor = jnp.where(temperature > 0, temperature, 1.0)
    probabilities = filter_probabilities(logits, divisor, top_k, top_p, min_p)
    sampled = sample(probabilities, uniform(seed, index))
    token = jnp.where(temperature > 0, sampled, jnp.argmax(logits).astype(jnp.int32))
    return jnp.where(jnp.isfinite(jnp.max(logits)), token, -1)  # The maximum of NaN is NaN.


def filter_probabilities(
    logits: Float[Array, " V"],
    temperature: Scalar,
    top_k: Integer,
    top_p: Scalar,
    min_p: Scalar = 0.0,
) -> Float[Array, " V"]:
    """Return the probabilities of the tokens that may be drawn, and 0 for the others.

    They are those of the softmax over the top k, not renormalised after min-p or the nucleus.
    """
    scaled = logits.astype(jnp.float32) / temperature
    all_tokens = jnp.ones(scaled.shape, bool)
    top = jax.lax.cond(
        top_k > 0, lambda: top_mask(scaled, jnp.ones(scaled.shape), top_k), lambda: all_tokens
    )
    probabilities = jax.nn.softmax(jnp.where(top, scaled, -jnp.inf))
    # A top_p that rounds to 0 in float32 keeps one token too.
    limit = jnp.maximum(top_p, jnp.finfo(jnp.float32).tiny)
    nucleus = jax.lax.cond(
        top_p < 1, lambda: top_mask(scaled, probabilities, limit), lambda: all_tokens
    )
    is_kept = nucleus & (probabilities >= min_p * jnp.max(probabilities))
    return jnp.where(is_kept, probabilities, 0.0)


def top_mask(
    values: Float[Array, " V"], weights: Float[Array, " V"], limit: Scalar | Integer
) -> Bool[Array, " V"]:
    """Return the elements before which the weights sum to less than a limit.

    The order is by descending value, and by lower index on ties. XLA sorts slowly, so a bisection
    finds the lowest value above which the weights sum to less than the limit. It compares the bits
    of float32 values as integers, which have the same order.
    """
    bits = jax.lax.bitcast_convert_type(values + 0.0, jnp.int32)  # + 0.0 turns -0.0 into 0.0
    order = jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)

    def weight_above(threshold: Int[Array, ""]) -> Float[Array, ""]:
        return jnp.sum(weights, where=order > threshold)

    lowest = bisect(lambda threshold: weight_above(threshold) < limit, -(2**31), 2**31 - 1)
    tied = jnp.where(order == lowest, weights, 0.0)
    preceding = weight_above(lowest) + jnp.cumsum(tied) - tied
    return (order > lowest) | (order == lowest) & (preceding < limit)


def bisect(
    predicate: Callable[[Int[Array, ""]], Bool[Array, ""]], low: int, high: int
) -> Int[Array, ""]:
    """Return the lowest int32 in [low, high] for which a monotone predicate is true.

    The predicate must be true for `high`, and for all numbers above one for which it is true.
    """

    def halve(_: Int[Array, ""], bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low & high) + ((low ^ high) >> 1)  # the mean, without overflow
        is_true = predicate(middle)
        return jnp.where(is_true, low, middle + 1), jnp.where(is_true, middle, high)

    bounds = jnp.array(low, jnp.int32), jnp.array(high, jnp.int32)
    return jax.lax.fori_loop(0, (high - low).bit_length(), halve, bounds)[1]


def uniform(seed: UInt32[Array, ""], index: Integer) -> Float[Array, ""]:
    """Return the number in [0, 1) that decides token `index` of a generation, counted from 0."""
    return jax.random.uniform(jax.random.fold_in(make_key(seed), index), dtype=jnp.float32)


def sample(probabilities: Float[Array, " V"], u: Float[Array, ""]) -> Int[Array, ""]:
    """Return the first token, in id order, whose running sum exceeds u times the total."""
    ids = jnp.arange(probabilities.shape[0], dtype=jnp.int32)
    # Bisection over masked sums: each adds up in the same tree, so rounding keeps them monotone.
    threshold = u * jnp.sum(probabilities, where=ids >= 0)
    return bisect(
        lambda last: jnp.sum(probabilities, where=ids <= last) > threshold,
        0,
        probabilities.shape[0] - 1,
    )
