"""Generation: read prompts into a cache, then decode token by token, several in each dispatch.

When the window of a row is full, its older half is dropped and the rest is read again. Rows of
different lengths do this at different times; each gets the same tokens as it would alone.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Bool, Int

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.text_generation import (
    NOT_FINITE,
    TokenColumns,
    TokenGenerator,
    window_start,
)
from valyrian_jax.config import ModelConfig, SampleConfig
from valyrian_jax.errors import UserError
from valyrian_jax.generation.sampler import SamplingParams, sample_tokens
from valyrian_jax.model.gpt import Cache, empty_cache, forward_cached
from valyrian_jax.model.jax_settings import pin_jax_settings
from valyrian_jax.model.parameters import Params, from_tensors

CHUNK = 16  # maximum number of tokens in one dispatch


class Windows(NamedTuple):
    """What the model has read in B rows."""

    cache: Cache  # keys and values of the tokens read
    occurs: Bool[Array, "B V"]  # which token ids are among them


class Texts(NamedTuple):
    """The tokens of B rows so far, and the window of each."""

    history: npt.NDArray[np.int32]  # [B, N]: all tokens, and room for those still to come
    starts: npt.NDArray[np.int64]  # first token of each window
    counts: npt.NDArray[np.int64]  # number of tokens of each text
    moved: npt.NDArray[np.int64]  # rows whose windows have moved


@functools.partial(jax.jit, static_argnames="config")
def prefill(
    params: Params,
    tokens: Int[Array, "B S"],
    lengths: Int[Array, " B"],
    sampling_params: SamplingParams,
    index: Int[Array, ""],
    config: ModelConfig,
) -> tuple[Int[Array, " B"], Windows]:
    """Read the first `lengths[b]` tokens of full-width windows; return token `index` after them.

    One compiled program reads windows of any length, in quarters up to the end of the longest.
    """
    B, S = tokens.shape
    rows, is_read = jnp.arange(B), jnp.arange(S) < lengths[:, None]
    width = -(-S // 4)

    def read_part(part: Int[Array, ""], carry: tuple[Array, Cache]) -> tuple[Array, Cache]:
        last, cache = carry
        start = jnp.minimum(part * width, S - width)  # The last part may overlap the one before.
        of_part = jax.lax.dynamic_slice_in_dim(tokens, start, width, axis=1)
        cache = cache._replace(lengths=jnp.full(B, start))
        logits, cache = forward_cached(params, of_part, config, cache)
        offset = lengths - 1 - start
        ends_here = (offset >= 0) & (offset < width)
        return jnp.where(ends_here[:, None], logits[rows, offset], last), cache

    wte = params["transformer"]["wte"]["weight"]
    last = jnp.zeros((B, wte.shape[0]), wte.dtype)
    parts = (jnp.max(lengths) + width - 1) // width
    last, cache = jax.lax.fori_loop(0, parts, read_part, (last, empty_cache(config, B)))
    occurs = jnp.zeros(last.shape, bool).at[rows[:, None], tokens].max(is_read)
    windows = Windows(cache._replace(lengths=lengths), occurs)
    return sample_tokens(last, sampling_params, index, occurs), windows


@functools.partial(jax.jit, static_argnames="config", donate_argnames="windows")
def decode(
    params: Params,
    tokens: Int[Array, " B"],
    windows: Windows,
    sampling_params: SamplingParams,
    index: Int[Array, ""],
    count: Int[Array, ""],
    config: ModelConfig,
) -> tuple[Int[Array, "C B"], Windows]:
    """Read the newest token of every row and sample the next, `count` times in one dispatch.

    Returns tokens `index` to `index + count - 1` of every row, padded with zeros to `CHUNK`, and
    the extended windows.
    """

    def decode_one(
        i: Int[Array, ""], carry: tuple[Array, Array, Windows]
    ) -> tuple[Array, Array, Windows]:
        sampled, newest, (cache, occurs) = carry
        logits, cache = forward_cached(params, newest[:, None], config, cache)
        occurs |= jnp.arange(occurs.shape[1]) == newest[:, None]
        newest = sample_tokens(logits[:, 0], sampling_params, index + i, occurs)
        return sampled.at[i].set(newest), newest, Windows(cache, occurs)

    sampled = jnp.zeros((CHUNK, tokens.shape[0]), jnp.int32)
    sampled, _, windows = jax.lax.fori_loop(0, count, decode_one, (sampled, tokens, windows))
    return sampled, windows


@functools.partial(jax.jit, donate_argnames="windows")
def replace_row(windows: Windows, row: Int[Array, ""], window: Windows) -> Windows:
    """Replace one row of the windows by a single window."""
    return jax.tree.map(lambda rows, new: rows.at[row].set(new[0]), windows, window)


@pin_jax_settings()  # The weights belong on the default device, not on the caller's mesh.
def make_generator(bundle: Bundle) -> TokenGenerator:
    """Return the token generator of a bundle."""
    params, end_of_text = from_tensors(bundle.tensors), bundle.tokenizer.end_of_text
    return functools.partial(stream_tokens, params, bundle.model, end_of_text=end_of_text)


def stream_tokens(
    params: Params,
    config: ModelConfig,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    sample: SampleConfig,
    end_of_text: int | None = None,
) -> TokenColumns:
    """Continue prompts of any lengths together; each gets the same tokens as it would alone.

    Args:
        params: Parameters of the model.
        config: Shape of the model.
        prompts: B prompts of at least one token id each; they can be longer than the window.
        seeds: Seed of each prompt.
        sample: Settings of the sampler; its prompt, seed and stop strings are not used.
        end_of_text: Id of `<|endoftext|>`; `sample.min_new_tokens` needs it.

    Yields:
        The next token of every row, int32[B], `sample.max_new_tokens` times; up to `CHUNK` tokens
        are computed before they are consumed.

    Raises:
        UserError: The logits of a token are not finite.
    """
    history, lengths = pad_prompts(prompts, seeds, sample.max_new_tokens)
    with pin_jax_settings():
        sampling_params = make_sampling_params(seeds, sample, end_of_text)
    windows, index, starts = None, 0, np.full(len(prompts), -1)
    while index < sample.max_new_tokens:
        counts = lengths + index
        previous = starts
        starts = np.array([window_start(count, config.n_positions) for count in counts.tolist()])
        texts = Texts(history, starts, counts, np.flatnonzero(starts != previous))
        with pin_jax_settings():  # never across a yield, where the caller's code runs
            tokens, windows = sample_next(params, config, texts, windows, sampling_params, index)
        for i, column in enumerate(tokens):
            history[np.arange(len(prompts)), counts + i] = column
        index += len(tokens)
        for column in tokens:
            if (column < 0).any():
                raise UserError(NOT_FINITE)
            yield column


def pad_prompts(
    prompts: Sequence[Sequence[int]], seeds: Sequence[int], room: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return the prompts padded to one length plus `room` for new tokens, and their lengths.

    Raises:
        ValueError: A prompt is empty, or there are not as many seeds as prompts.
    """
    if not prompts or not all(map(len, prompts)):
        raise ValueError("empty prompt: expected at least one token; pass the end-of-text token")
    if len(seeds) != len(prompts):
        raise ValueError(
            f"the seeds do not fit the prompts: expected {len(prompts)}, found {len(seeds)}; "
            "pass a seed for each prompt"
        )
    lengths = np.array([len(prompt) for prompt in prompts])
    history = np.zeros((len(prompts), lengths.max() + room), np.int32)
    for text, prompt in zip(history, prompts, strict=True):
        text[: len(prompt)] = prompt
    return history, lengths


def sample_next(
    params: Params,
    config: ModelConfig,
    texts: Texts,
    windows: Windows | None,
    sampling_params: SamplingParams,
    index: int,
) -> tuple[npt.NDArray[np.int32], Windows]:
    """Return the next C tokens of every row from token `index` on, [C, B], and the new windows.

    C is at most `CHUNK`. If a window has moved, it is read again, and C is 1.
    """
    if windows is None or len(texts.moved) == len(texts.counts):
        first, windows = read_windows(params, config, texts, slice(None), sampling_params, index)
        return np.asarray(first)[None], windows
    newest = texts.history[np.arange(len(texts.counts)), texts.counts - 1]
    # The last sampled token is not read, so a window with room for n tokens allows n + 1.
    room = int((texts.starts + config.n_positions - texts.counts).min()) + 1
    left = texts.history.shape[1] - int(texts.counts.max())
    count = 1 if len(texts.moved) else min(CHUNK, room, left)
    sampled, windows = decode(params, newest, windows, sampling_params, index, count, config)
    tokens = np.array(sampled)[:count]
    for row in texts.moved.tolist():  # A full window has no room: what was decoded is replaced.
        rows = slice(row, row + 1)
        first, window = read_windows(params, config, texts, rows, sampling_params, index)
        tokens[0, row] = first[0]
        windows = replace_row(windows, row, window)
    return tokens, windows


def read_windows(
    params: Params,
    config: ModelConfig,
    texts: Texts,
    rows: slice,
    sampling_params: SamplingParams,
    index: int,
) -> tuple[Int[Array, " B"], Windows]:
    """Read the windows of some rows again and sample the next token of each."""
    starts, counts = texts.starts[rows], texts.counts[rows]
    tokens = np.zeros((len(counts), config.n_positions), np.int32)
    for window, text, start, count in zip(tokens, texts.history[rows], starts, counts, strict=True):
        window[: count - start] = text[start:count]
    of_rows = sampling_params._replace(seeds=sampling_params.seeds[rows])
    return prefill(params, tokens, (counts - starts).astype(np.int32), of_rows, index, config)


def make_sampling_params(
    seeds: Sequence[int], sample: SampleConfig, end_of_text: int | None
) -> SamplingParams:
    """Return the settings of the sampler for rows with these seeds.

    Raises:
        ValueError: `sample.min_new_tokens` is set without `end_of_text`.
    """
    if sample.min_new_tokens and end_of_text is None:
        raise ValueError("min_new_tokens needs the id of the end-of-text token; pass end_of_text")
    return SamplingParams(
        seeds=jnp.asarray(np.asarray(seeds, np.uint32)),
        temperature=sample.temperature,
        top_k=sample.top_k,
        top_p=sample.top_p,
        min_p=sample.min_p,
        repetition_penalty=sample.repetition_penalty,
        min_new_tokens=sample.min_new_tokens,
        end_of_text=-1 if end_of_text is None else end_of_text,
    )
