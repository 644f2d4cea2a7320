"""Drawing text, to a contract that every runtime keeps, so that the same seed gives the same text everywhere.

Logits in float32 -> temperature (0: the most probable token, the lowest id on ties) -> top-k -> softmax -> nucleus
(Holtzman et al. 2020: by falling probability, ties by lower id, keep a token while the probability before it is
below p) -> draw. The draw uses one uniform number a token, a function of the seed and the token's index: walk the
kept tokens in id order and take the first whose running sum exceeds it. Id order, unlike probability order, hardly
reacts to float noise.

When the window is full, its older half is dropped and the rest read again.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Bool, Float, Int, UInt32

from valyrian_jax.config import ModelConfig, SampleConfig
from valyrian_jax.model.gpt import Cache, empty_cache, forward_cached
from valyrian_jax.model.parameters import Params

Scalar = Float[Array, ""] | float
CHUNK = 16  # tokens drawn before the host looks at them


def keep(
    logits: Float[Array, "V"], temperature: Scalar, top_k: Int[Array, ""] | int, top_p: Scalar
) -> Float[Array, "V"]:
    """Probabilities of the tokens that may be drawn, 0 for the others.

    They are those of the softmax over the top k, not renormalised over the nucleus.
    """
    scaled = logits.astype(jnp.float32) / temperature
    every = jnp.ones(scaled.shape, bool)
    top = jax.lax.cond(top_k > 0, lambda: leading(scaled, jnp.ones(scaled.shape), top_k), lambda: every)
    probabilities = jax.nn.softmax(jnp.where(top, scaled, -jnp.inf))
    limit = jnp.maximum(top_p, jnp.finfo(jnp.float32).tiny)  # a top_p that is 0 in float32 keeps one token too
    nucleus = jax.lax.cond(top_p < 1, lambda: leading(scaled, probabilities, limit), lambda: every)
    return jnp.where(nucleus, probabilities, 0.0)


def leading(
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


def bisect(holds: Callable[[Int[Array, ""]], Bool[Array, ""]], low: int, high: int) -> Int[Array, ""]:
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


def draw(kept: Float[Array, "V"], u: Float[Array, ""]) -> Int[Array, ""]:
    """The first token, in id order, whose running sum of probabilities exceeds u times their total."""
    ids = jnp.arange(kept.shape[0], dtype=jnp.int32)
    # By bisection: a sum over fewer tokens, added up in the same tree, is never larger, however it rounds.
    bound = u * jnp.sum(kept, where=ids >= 0)
    return bisect(lambda last: jnp.sum(kept, where=ids <= last) > bound, 0, kept.shape[0] - 1)


def next_token(
    logits: Float[Array, "V"],
    seed: UInt32[Array, ""],
    index: Int[Array, ""] | int,
    temperature: Scalar,
    top_k: Int[Array, ""] | int,
    top_p: Scalar,
) -> Int[Array, ""]:
    """Token `index` of a generation from its logits."""
    drawn = draw(keep(logits, jnp.where(temperature > 0, temperature, 1.0), top_k, top_p), uniform(seed, index))
    return jnp.where(temperature > 0, drawn, jnp.argmax(logits).astype(jnp.int32))


def window_start(count: int, n_positions: int) -> int:
    """Where the window begins after `count` tokens: halves are dropped, oldest first, until the rest fits."""
    half = n_positions // 2
    return half * max(0, -(-(count - n_positions) // half))


class Drawing(NamedTuple):
    """How every token of B rows is drawn."""

    seeds: UInt32[Array, "B"]
    temperature: Scalar
    top_k: Int[Array, ""] | int
    top_p: Scalar


def next_tokens(logits: Float[Array, "B V"], drawing: Drawing, index: Int[Array, ""] | int) -> Int[Array, "B"]:
    """Token `index` of every row."""
    draw_rows = jax.vmap(next_token, in_axes=(0, 0, None, None, None, None))
    return draw_rows(logits, drawing.seeds, index, drawing.temperature, drawing.top_k, drawing.top_p)


@functools.partial(jax.jit, static_argnames="config")
def prefill(
    params: Params,
    tokens: Int[Array, "B S"],
    length: Int[Array, ""],
    drawing: Drawing,
    index: Int[Array, ""],
    config: ModelConfig,
) -> tuple[Int[Array, "B"], Cache]:
    """Read the first `length` tokens of a full-width window; token `index`, which follows them, and their cache."""
    logits, cache = forward_cached(params, tokens, config, empty_cache(config, tokens.shape[0]))
    last = jax.lax.dynamic_index_in_dim(logits, length - 1, axis=1, keepdims=False)
    return next_tokens(last, drawing, index), cache._replace(length=length)


@functools.partial(jax.jit, static_argnames="config", donate_argnames="cache")
def decode(
    params: Params,
    tokens: Int[Array, "B"],
    cache: Cache,
    drawing: Drawing,
    index: Int[Array, ""],
    count: Int[Array, ""],
    config: ModelConfig,
) -> tuple[Int[Array, "C B"], Cache]:
    """Read the newest token of every row and draw the next (token `index`), `count` times in one dispatch."""

    def one(i: Int[Array, ""], carry: tuple[Array, Array, Cache]) -> tuple[Array, Array, Cache]:
        drawn, newest, cache = carry
        logits, cache = forward_cached(params, newest[:, None], config, cache)
        newest = next_tokens(logits[:, 0], drawing, index + i)
        return drawn.at[i].set(newest), newest, cache

    drawn = jnp.zeros((CHUNK, tokens.shape[0]), jnp.int32)
    drawn, _, cache = jax.lax.fori_loop(0, count, one, (drawn, tokens, cache))
    return drawn, cache


def generate(
    params: Params, config: ModelConfig, prompt: Sequence[int], sample: SampleConfig, rows: int = 1
) -> Iterator[npt.NDArray[np.int32]]:
    """Continue a prompt in several independent rows; row r draws with seed + r.

    Args:
        params: of the model.
        config: of the model.
        prompt: at least one token id, of any length.
        sample: temperature, top_k, top_p, seed and max_new_tokens.
        rows: B.

    Yields:
        max_new_tokens times the next token of every row, int32[B]; some are drawn ahead of what was asked for.
    """
    if not prompt:
        raise ValueError("an empty prompt has nothing to continue; start from the end-of-text token")
    seeds = jnp.asarray((sample.seed + np.arange(rows)) % 2**32, jnp.uint32)
    drawing = Drawing(seeds, sample.temperature, sample.top_k, sample.top_p)
    history = np.empty((rows, len(prompt) + sample.max_new_tokens), np.int32)
    history[:, : len(prompt)] = prompt
    start, cache, index = -1, None, 0
    while index < sample.max_new_tokens:
        count = len(prompt) + index
        if cache is not None and window_start(count, config.n_positions) == start:
            here = min(CHUNK, sample.max_new_tokens - index, start + config.n_positions - count + 1)
            drawn, cache = decode(params, history[:, count - 1], cache, drawing, index, here, config)
            columns = np.asarray(drawn)[:here]
        else:
            start = window_start(count, config.n_positions)
            window = np.zeros((rows, config.n_positions), np.int32)
            window[:, : count - start] = history[:, start:count]
            first, cache = prefill(params, window, jnp.asarray(count - start, jnp.int32), drawing, index, config)
            columns = np.asarray(first)[None]
        history[:, count : count + len(columns)] = columns.T
        index += len(columns)
        yield from columns
