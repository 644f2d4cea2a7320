"""Generation: read a prompt into a cache, then decode a token at a time, several in each dispatch.

When the window is full, its older half is dropped and the rest is read again.
"""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Int

from valyrian_jax.config import ModelConfig, SampleConfig
from valyrian_jax.generation.sampler import SamplingParams, sample_tokens
from valyrian_jax.model.gpt import Cache, empty_cache, forward_cached
from valyrian_jax.model.parameters import Params

CHUNK = 16  # tokens drawn before the host looks at them


def window_start(count: int, n_positions: int) -> int:
    """Where the window begins after `count` tokens: halves are dropped, oldest first, until the rest fits."""
    half = n_positions // 2
    return half * max(0, -(-(count - n_positions) // half))


@functools.partial(jax.jit, static_argnames="config")
def prefill(
    params: Params,
    tokens: Int[Array, "B S"],
    length: Int[Array, ""],
    drawing: SamplingParams,
    index: Int[Array, ""],
    config: ModelConfig,
) -> tuple[Int[Array, "B"], Cache]:
    """Read the first `length` tokens of a full-width window; token `index`, which follows them, and their cache."""
    logits, cache = forward_cached(params, tokens, config, empty_cache(config, tokens.shape[0]))
    last = jax.lax.dynamic_index_in_dim(logits, length - 1, axis=1, keepdims=False)
    return sample_tokens(last, drawing, index), cache._replace(length=length)


@functools.partial(jax.jit, static_argnames="config", donate_argnames="cache")
def decode(
    params: Params,
    tokens: Int[Array, "B"],
    cache: Cache,
    drawing: SamplingParams,
    index: Int[Array, ""],
    count: Int[Array, ""],
    config: ModelConfig,
) -> tuple[Int[Array, "C B"], Cache]:
    """Read the newest token of every row and draw the next (token `index`), `count` times in one dispatch."""

    def one(i: Int[Array, ""], carry: tuple[Array, Array, Cache]) -> tuple[Array, Array, Cache]:
        drawn, newest, cache = carry
        logits, cache = forward_cached(params, newest[:, None], config, cache)
        newest = sample_tokens(logits[:, 0], drawing, index + i)
        return drawn.at[i].set(newest), newest, cache

    drawn = jnp.zeros((CHUNK, tokens.shape[0]), jnp.int32)
    drawn, _, cache = jax.lax.fori_loop(0, count, one, (drawn, tokens, cache))
    return drawn, cache


def stream_tokens(
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
        raise ValueError(
            "an empty prompt has nothing to continue; start from the end-of-text token"
        )
    seeds = jnp.asarray((sample.seed + np.arange(rows)) % 2**32, jnp.uint32)
    drawing = SamplingParams(seeds, sample.temperature, sample.top_k, sample.top_p)
    history = np.empty((rows, len(prompt) + sample.max_new_tokens), np.int32)
    history[:, : len(prompt)] = prompt
    start, cache, index = -1, None, 0
    while index < sample.max_new_tokens:
        count = len(prompt) + index
        if cache is not None and window_start(count, config.n_positions) == start:
            here = min(CHUNK, sample.max_new_tokens - index, start + config.n_positions - count + 1)
            drawn, cache = decode(
                params, history[:, count - 1], cache, drawing, index, here, config
            )
            columns = np.asarray(drawn)[:here]
        else:
            start = window_start(count, config.n_positions)
            window = np.zeros((rows, config.n_positions), np.int32)
            window[:, : count - start] = history[:, start:count]
            first, cache = prefill(
                params, window, jnp.asarray(count - start, jnp.int32), drawing, index, config
            )
            columns = np.asarray(first)[None]
        history[:, count : count + len(columns)] = columns.T
        index += len(columns)
        yield from columns
