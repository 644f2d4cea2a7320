"""Drawing text, to a contract that every runtime keeps, so that the same seed gives the same text everywhere.

Logits in float32 -> temperature (0: the most probable token, the lowest id on ties) -> top-k -> softmax -> nucleus
(Holtzman et al. 2020: by falling probability, ties by lower id, keep a token while the probability before it is
below p) -> draw. The draw uses one uniform number a token, a function of the seed and the token's index: walk the
kept tokens in id order and take the first whose running sum exceeds it. Id order, unlike probability order, hardly
reacts to float noise.

When the window is full, its older half is dropped and the rest read again.
"""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float, Int, UInt32

from valyrian_jax import model
from valyrian_jax.config import ModelConfig, SampleConfig
from valyrian_jax.model import Cache, Params

Scalar = Float[Array, ""] | float


def keep(
    logits: Float[Array, "V"], temperature: Scalar, top_k: Int[Array, ""] | int, top_p: Scalar
) -> Float[Array, "V"]:
    """Probabilities of the tokens that may be drawn, 0 for the others.

    They are those of the softmax over the top k, not renormalised over the nucleus.
    """
    scaled = logits.astype(jnp.float32) / temperature
    order = jnp.argsort(-scaled, stable=True)  # by falling logit, ties by lower id
    rank = jnp.argsort(order)
    scaled = jnp.where((top_k == 0) | (rank < top_k), scaled, -jnp.inf)
    probabilities = jax.nn.softmax(scaled)
    falling = probabilities[order]
    before = (jnp.cumsum(falling) - falling)[rank]
    return jnp.where((before < top_p) | (top_p >= 1) | (rank == 0), probabilities, 0.0)


def uniform(seed: UInt32[Array, ""], index: Int[Array, ""] | int) -> Float[Array, ""]:
    """The number in [0, 1) that decides token `index` of a generation, counted from 0."""
    return jax.random.uniform(jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), index))


def draw(kept: Float[Array, "V"], u: Float[Array, ""]) -> Int[Array, ""]:
    """The first token, in id order, whose running sum of probabilities exceeds u times their total."""
    # XLA sums in parallel, so rounding may let the sum shrink: only kept tokens count, the largest is the total.
    running = jnp.where(kept > 0, jnp.cumsum(kept), 0.0)
    return jnp.argmax(running > u * running.max()).astype(jnp.int32)


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


@functools.partial(jax.jit, static_argnames="config")
def prefill(
    params: Params, tokens: Int[Array, "B S"], length: Int[Array, ""], config: ModelConfig
) -> tuple[Float[Array, "B V"], Cache]:
    """Read the first `length` tokens of a full-width window: the logits after them, and their cache."""
    logits, cache = model.forward_cached(params, tokens, config, model.empty_cache(config, tokens.shape[0]))
    return jax.lax.dynamic_index_in_dim(logits, length - 1, axis=1, keepdims=False), cache._replace(length=length)


@functools.partial(jax.jit, static_argnames="config", donate_argnames="cache")
def decode(
    params: Params, tokens: Int[Array, "B"], cache: Cache, config: ModelConfig
) -> tuple[Float[Array, "B V"], Cache]:
    """Read one more token in each row."""
    logits, cache = model.forward_cached(params, tokens[:, None], config, cache)
    return logits[:, 0], cache


_next_tokens = jax.jit(jax.vmap(next_token, in_axes=(0, 0, None, None, None, None)))


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
        max_new_tokens times the next token of every row, int32[B].
    """
    if not prompt:
        raise ValueError("an empty prompt has nothing to continue; start from the end-of-text token")
    seeds = jnp.asarray((sample.seed + np.arange(rows)) % 2**32, jnp.uint32)
    history = np.empty((rows, len(prompt) + sample.max_new_tokens), np.int32)
    history[:, : len(prompt)] = prompt
    start, cache = -1, None
    for index in range(sample.max_new_tokens):
        count = len(prompt) + index
        if cache is not None and window_start(count, config.n_positions) == start:
            logits, cache = decode(params, history[:, count - 1], cache, config)
        else:
            start = window_start(count, config.n_positions)
            window = np.zeros((rows, config.n_positions), np.int32)
            window[:, : count - start] = history[:, start:count]
            logits, cache = prefill(params, window, jnp.asarray(count - start, jnp.int32), config)
        tokens = np.asarray(_next_tokens(logits, seeds, index, sample.temperature, sample.top_k, sample.top_p))
        history[:, count] = tokens
        yield tokens
