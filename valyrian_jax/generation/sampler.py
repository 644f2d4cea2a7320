"""Drawing text, to a contract that every runtime keeps, so that the same seed gives the same text everywhere.

Logits in float32 -> temperature (0: the most probable token, the lowest id on ties) -> top-k -> softmax -> nucleus
(Holtzman et al. 2020: by falling probability, ties by lower id, keep a token while the probability before it is
below p) -> draw. The draw uses one uniform number a token, a function of the seed and the token's index: walk the
kept tokens in id order and take the first whose running sum exceeds it. Id order, unlike probability order, hardly
reacts to float noise.

"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

Scalar = Float[Array, ""] | float


def filter_probabilities(
    logits: Float[Array, "V"], temperature: Scalar, top_k: Int[Array, ""] | int, top_p: Scalar
) -> Float[Array, "V"]:
    """Probabilities of the tokens that may be drawn, 0 for the others.

    They are those of the softmax over the top k, not renormalised over the nucleus.
    """
    scaled = logits.astype(jnp.float32) / temperature
    every = jnp.ones(scaled.shape, bool)
    top = jax.lax.cond(
        top_k > 0, lambda: top_mask(scaled, jnp.ones(scaled.shape), top_k), lambda: every
    )
    probabilities = jax.nn.softmax(jnp.where(top, scaled, -jnp.inf))
    limit = jnp.maximum(
        top_p, jnp.finfo(jnp.float32).tiny
    )  # a top_p that is 0 in float32 keeps one token too
    nucleus = jax.lax.cond(top_p < 1, lambda: top_mask(scaled, probabilities, limit), lambda: every)
    return jnp.where(nucleus, probabilities, 0.0)


def top_mask(
    values: Float[Array, "V"], weights: Float[Array, "V"], limit: Scalar | Int[Array, ""] | int
) -> Bool[Array, "V"]:
    """The elements, by falling value and on ties by lower index, before which the weights sum to less than a limit.

    Nothing is sorted, which XLA is slow at: a bisection finds the lowest value above which the weights are below the
    limit. It runs over the bits of a float32, which, as an integer, has the order of the number they stand for.
    """
    bits = jax.lax.bitcast_convert_type(values + 0.0, jnp.int32)  # + 0: minus zero is zero
    order = jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)

    def above(threshold: Int[Array, ""]) -> Float[Array, ""]:
        return jnp.sum(weights, where=order > threshold)

    lowest = bisect(lambda threshold: above(threshold) < limit, -(2**31), 2**31 - 1)
    tied = jnp.where(order == lowest, weights, 0.0)
    return (order > lowest) | (order == lowest) & (above(lowest) + jnp.cumsum(tied) - tied < limit)


def bisect(
    holds: Callable[[Int[Array, ""]], Bool[Array, ""]], low: int, high: int
) -> Int[Array, ""]:
    """The lowest int32 from low to high for which something holds, which holds for all above it and for high."""

    def halve(_: Int[Array, ""], between: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = between
        middle = (low & high) + ((low ^ high) >> 1)  # their mean, without overflow
        enough = holds(middle)
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    ends = jnp.array(low, jnp.int32), jnp.array(high, jnp.int32)
    return jax.lax.fori_loop(0, (high - low).bit_length(), halve, ends)[1]


def uniform(seed: UInt32[Array, ""], index: Int[Array, ""] | int) -> Float[Array, ""]:
    """The number in [0, 1) that decides token `index` of a generation, counted from 0."""
    return jax.random.uniform(jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), index))


def sample(kept: Float[Array, "V"], u: Float[Array, ""]) -> Int[Array, ""]:
    """The first token, in id order, whose running sum of probabilities exceeds u times their total."""
    ids = jnp.arange(kept.shape[0], dtype=jnp.int32)
    # By bisection: a sum over fewer tokens, added up in the same tree, is never larger, however it rounds.
    bound = u * jnp.sum(kept, where=ids >= 0)
    return bisect(lambda last: jnp.sum(kept, where=ids <= last) > bound, 0, kept.shape[0] - 1)


def sample_token(
    logits: Float[Array, "V"],
    seed: UInt32[Array, ""],
    index: Int[Array, ""] | int,
    temperature: Scalar,
    top_k: Int[Array, ""] | int,
    top_p: Scalar,
) -> Int[Array, ""]:
    """Token `index` of a generation from its logits."""
    drawn = sample(
        filter_probabilities(logits, jnp.where(temperature > 0, temperature, 1.0), top_k, top_p),
        uniform(seed, index),
    )
    return jnp.where(temperature > 0, drawn, jnp.argmax(logits).astype(jnp.int32))


class SamplingParams(NamedTuple):
    """How every token of B rows is drawn."""

    seeds: UInt32[Array, "B"]
    temperature: Scalar
    top_k: Int[Array, ""] | int
    top_p: Scalar


def sample_tokens(
    logits: Float[Array, "B V"], drawing: SamplingParams, index: Int[Array, ""] | int
) -> Int[Array, "B"]:
    """Token `index` of every row."""
    draw_rows = jax.vmap(sample_token, in_axes=(0, 0, None, None, None, None))
    return draw_rows(
        logits, drawing.seeds, index, drawing.temperature, drawing.top_k, drawing.top_p
    )
