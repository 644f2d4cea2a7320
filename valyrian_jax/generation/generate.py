"""Generation: read a prompt into a cache, then decode token by token, several in each dispatch.

When the window is full, its older half is dropped and the rest is read again.
"""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Int

from valyrian_jax.bundle.text_generation import NOT_FINITE
from valyrian_jax.config import ModelConfig, SampleConfig
from valyrian_jax.errors import UserError
from valyrian_jax.generation.sampler import SamplingParams, sample_tokens
from valyrian_jax.model.gpt import Cache, empty_cache, forward_cached
from valyrian_jax.model.jax_settings import pin_jax_settings
from valyrian_jax.model.parameters import Params

CHUNK = 16  # maximum number of tokens in one dispatch


def window_start(count: int, n_positions: int) -> int:
    """Return where the window starts after `count` tokens: it drops halves until the rest fits."""
    half = n_positions // 2
    return half * max(0, -(-(count - n_positions) // half))


@functools.partial(jax.jit, static_argnames="config")
def prefill(
    params: Params,
    tokens: Int[Array, "B S"],
    length: Int[Array, ""],
    sampling_params: SamplingParams,
    index: Int[Array, ""],
    config: ModelConfig,
) -> tuple[Int[Array, "B"], Cache]:
    """Read the first `length` tokens of a full-width window and sample token `index` after them.

    Returns:
        The token of every row, and the cache of the tokens read.
    """
    logits, cache = forward_cached(params, tokens, config, empty_cache(config, tokens.shape[0]))
    last = jax.lax.dynamic_index_in_dim(logits, length - 1, axis=1, keepdims=False)
    return sample_tokens(last, sampling_params, index), cache._replace(length=length)


@functools.partial(jax.jit, static_argnames="config", donate_argnames="cache")
def decode(
    params: Params,
    tokens: Int[Array, "B"],
    cache: Cache,
    sampling_params: SamplingParams,
    index: Int[Array, ""],
    count: Int[Array, ""],
    config: ModelConfig,
) -> tuple[Int[Array, "C B"], Cache]:
    """Read the newest token of every row and sample the next, `count` times in one dispatch.

    Returns:
        Tokens `index` to `index + count - 1` of every row, then zeros; and the extended cache.
    """

    def decode_one(
        i: Int[Array, ""], carry: tuple[Array, Array, Cache]
    ) -> tuple[Array, Array, Cache]:
        sampled, newest, cache = carry
        logits, cache = forward_cached(params, newest[:, None], config, cache)
        newest = sample_tokens(logits[:, 0], sampling_params, index + i)
        return sampled.at[i].set(newest), newest, cache

    sampled = jnp.zeros((CHUNK, tokens.shape[0]), jnp.int32)
    sampled, _, cache = jax.lax.fori_loop(0, count, decode_one, (sampled, tokens, cache))
    return sampled, cache


def stream_tokens(
    params: Params, config: ModelConfig, prompt: Sequence[int], sample: SampleConfig, rows: int = 1
) -> Iterator[npt.NDArray[np.int32]]:
    """Continue a prompt in several independent rows.

    Args:
        params: Parameters of the model.
        config: Shape of the model.
        prompt: At least one token id; can be longer than the window.
        sample: Settings of the sampler; row r samples with seed + r.
        rows: Number of rows B.

    Yields:
        The next token of every row, int32[B], `sample.max_new_tokens` times; up to `CHUNK` tokens
        are computed before they are consumed.

    Raises:
        UserError: The logits of a token are not finite.
    """
    if not prompt:
        raise ValueError("empty prompt: expected at least one token; pass the end-of-text token")
    with pin_jax_settings():
        seeds = jnp.asarray((sample.seed + np.arange(rows)) % 2**32, jnp.uint32)
    sampling_params = SamplingParams(seeds, sample.temperature, sample.top_k, sample.top_p)
    history = np.empty((rows, len(prompt) + sample.max_new_tokens), np.int32)
    history[:, : len(prompt)] = prompt
    start, cache, index = -1, None, 0
    while index < sample.max_new_tokens:
        count = len(prompt) + index
        with pin_jax_settings():  # never across a yield, where the caller's code runs
            if cache is not None and window_start(count, config.n_positions) == start:
                free = start + config.n_positions - count + 1  # The last sampled token is not read.
                chunk = min(CHUNK, sample.max_new_tokens - index, free)
                last = history[:, count - 1]
                sampled, cache = decode(params, last, cache, sampling_params, index, chunk, config)
                tokens = np.asarray(sampled)[:chunk]
            else:
                start = window_start(count, config.n_positions)
                length = jnp.asarray(count - start, jnp.int32)
                window = np.zeros((rows, config.n_positions), np.int32)
                window[:, : count - start] = history[:, start:count]
                first, cache = prefill(params, window, length, sampling_params, index, config)
                tokens = np.asarray(first)[None]
        history[:, count : count + len(tokens)] = tokens.T
        index += len(tokens)
        for column in tokens:
            if (column < 0).any():
                raise UserError(NOT_FINITE)
            yield column
