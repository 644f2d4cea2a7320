"""The sampler; every runtime implements the same steps, so the same seed gives the same text.

Logits in float32 -> temperature (0: the most probable token, the lowest id on ties) -> top-k ->
softmax -> nucleus (Holtzman et al. 2020: in descending order of probability, ties by lower id, keep
a token while the probability before it is below p) -> draw. The draw uses one uniform number per
token, a function of the seed and the token's index: walk the kept tokens in id order and take the
first whose running sum exceeds that number times the total.

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


class SamplingParams(NamedTuple):
    """Settings of the sampler for B rows of tokens."""

    seeds: UInt32[Array, "B"]
    temperature: Scalar
    top_k: Int[Array, ""] | int
    top_p: Scalar


def sample_tokens(
    logits: Float[Array, "B V"], params: SamplingParams, index: Int[Array, ""] | int
) -> Int[Array, "B"]:
    """Sample token `index` of every row; the index counts new tokens, without the prompt.

    The token is -1 where the logits are not finite; a single one may be minus infinity.
    """
    sample_rows = jax.vmap(sample_token, in_axes=(0, 0, None, None, None, None))
    return sample_rows(logits, params.seeds, index, params.temperature, params.top_k, params.top_p)


def sample_token(
    logits: Float[Array, "V"],
    seed: UInt32[Array, ""],
    index: Int[Array, ""] | int,
    temperature: Scalar,
    top_k: Int[Array, ""] | int,
    top_p: Scalar,
) -> Int[Array, ""]:
    """Sample token `index` of a generation from its logits; see `sample_tokens`."""
    divisor = jnp.where(temperature > 0, temperature, 1.0)
    probabilities = filter_probabilities(logits, divisor, top_k, top_p)
    sampled = sample(probabilities, uniform(seed, index))
    token = jnp.where(temperature > 0, sampled, jnp.argmax(logits).astype(jnp.int32))
    return jnp.where(jnp.isfinite(jnp.max(logits)), token, -1)  # The maximum of NaN is NaN.


def filter_probabilities(
    logits: Float[Array, "V"], temperature: Scalar, top_k: Int[Array, ""] | int, top_p: Scalar
) -> Float[Array, "V"]:
    """Return the probabilities of the tokens that may be drawn, and 0 for the others.

    They are those of the softmax over the top k, not renormalised over the nucleus.
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
    return jnp.where(nucleus, probabilities, 0.0)


def top_mask(
    values: Float[Array, "V"], weights: Float[Array, "V"], limit: Scalar | Int[Array, ""] | int
) -> Bool[Array, "V"]:
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


def uniform(seed: UInt32[Array, ""], index: Int[Array, ""] | int) -> Float[Array, ""]:
    """Return the number in [0, 1) that decides token `index` of a generation, counted from 0."""
    return jax.random.uniform(jax.random.fold_in(make_key(seed), index), dtype=jnp.float32)


def sample(probabilities: Float[Array, "V"], u: Float[Array, ""]) -> Int[Array, ""]:
    """Return the first token, in id order, whose running sum exceeds u times the total."""
    ids = jnp.arange(probabilities.shape[0], dtype=jnp.int32)
    # Bisection over masked sums: each adds up in the same tree, so rounding keeps them monotone.
    threshold = u * jnp.sum(probabilities, where=ids >= 0)
    return bisect(
        lambda last: jnp.sum(probabilities, where=ids <= last) > threshold,
        0,
        probabilities.shape[0] - 1,
    )
