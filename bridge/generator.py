"""Token generation: the GPT, its cache and the sampler as one scriptable module.

`python -m bridge generate` uses it directly. `bridge.torchscript` adds text and writes a file.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bridge.gpt import to_module
from bridge.sampler import check_settings, sample_tokens
from bridge.torch_settings import pin_torch_settings
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.config import SampleConfig


class Cache(NamedTuple):
    """The tokens of a window that the model has read.

    Attributes:
        keys_values: Keys and values [L, 2, B, H, n_positions, K]; `step` changes them in place.
        start: Index in the text of the window's first token.
        length: Number of tokens of the window that have been read.
    """

    keys_values: Tensor
    start: int
    length: int


class Generator(nn.Module):
    """A GPT that generates tokens; token ids are int64 tensors on the device of the weights."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.gpt = to_module(bundle)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits [B, T, V] of every next token after tokens [B, T], T <= n_positions."""
        return self.gpt(tokens)

    def new_cache(self, rows: int) -> Cache:
        """Return an empty cache for B rows."""
        return Cache(self.gpt.make_cache(rows, self.gpt.n_positions), 0, 0)

    def step(self, tokens: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Read the tokens that the cache lacks; return the logits [B, V] after them and the cache.

        When the window is full, its older half is dropped and the rest is read again.

        Args:
            tokens: All tokens so far, [B, N]; those that were read before must not change.
            cache: From `new_cache` or the previous step.
        """
        N, n_positions = tokens.shape[1], self.gpt.n_positions
        start = window_start(N, n_positions)
        length = cache.length if start == cache.start else 0
        if start + length >= N:
            raise ValueError("there are no tokens to read; append at least one to those read")
        unread = tokens.narrow(1, start + length, N - start - length)
        with torch.no_grad():
            logits = self.gpt.forward_cached(unread, cache.keys_values, length)
        return logits, Cache(cache.keys_values, start, N - start)

    def sample(
        self, logits: Tensor, index: int, temperature: float, top_k: int, top_p: float, seed: int
    ) -> Tensor:
        """Draw token `index` (counted from 0) of every row from logits [B, V]: tokens [B]."""
        check_settings(temperature, top_k, top_p, seed)
        return sample_tokens(logits, index, temperature, top_k, top_p, seed)

    def generate(
        self,
        tokens: Tensor,
        max_new_tokens: int,
        temperature: float,
        top_k: int,
        top_p: float,
        seed: int,
    ) -> Tensor:
        """Continue tokens [B, N], N >= 1, to [B, N + max_new_tokens]; row r draws with seed + r."""
        return self.extend(tokens, max_new_tokens, temperature, top_k, top_p, seed, -1)

    def extend(
        self,
        tokens: Tensor,
        max_new_tokens: int,
        temperature: float,
        top_k: int,
        top_p: float,
        seed: int,
        stop_token: int,
    ) -> Tensor:
        """Continue tokens as `generate` does; a single row ends before `stop_token` (-1: never).

        TorchScript cannot yield, so this repeats the loop of `generate_with_logits`.
        """
        if max_new_tokens < 0:
            raise ValueError("max_new_tokens must not be negative")
        B, N = tokens.shape
        out = torch.zeros(B, N + max_new_tokens, dtype=torch.int64, device=tokens.device)
        out[:, :N] = tokens
        cache = self.new_cache(B)
        for count in range(N, N + max_new_tokens):
            logits, cache = self.step(out.narrow(1, 0, count), cache)
            drawn = self.sample(logits, count - N, temperature, top_k, top_p, seed)
            if stop_token >= 0 and drawn.item() == stop_token:
                return out[:, :count]
            out.select(1, count).copy_(drawn)
        return out


def window_start(count: int, n_positions: int) -> int:
    """Return the index of the window's first token after `count` tokens.

    The window drops halves of n_positions, oldest first, until the remaining tokens fit. It must
    equal `valyrian_jax.generation.generate.window_start`, because the texts depend on it.
    """
    half = n_positions // 2
    return half * max(0, (count - n_positions + half - 1) // half)


def generate_with_logits(
    generator: Generator, prompt: Sequence[int], sample: SampleConfig, rows: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """Continue a prompt in B = rows independent rows; row r draws with seed + r.

    Yields:
        For every new token the logits [B, V] and the tokens drawn from them, int64 [B].

    Raises:
        UserError: The logits of a token are not finite.
    """
    device = generator.gpt.transformer.wte.weight.device
    N = len(prompt)
    settings = sample.temperature, sample.top_k, sample.top_p, sample.seed
    with pin_torch_settings():
        tokens = torch.empty(rows, N + sample.max_new_tokens, dtype=torch.int64, device=device)
        tokens[:, :N] = torch.tensor(prompt, device=device)
        cache = generator.new_cache(rows)
    for index in range(sample.max_new_tokens):
        with pin_torch_settings():  # never across a yield, where the caller's code runs
            logits, cache = generator.step(tokens[:, : N + index], cache)
            drawn = generator.sample(logits, index, *settings)
            tokens[:, N + index] = drawn
        yield logits, drawn


def stream(
    generator: Generator,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    sample: SampleConfig,
) -> Iterator[npt.NDArray[np.int32]]:
    """Continue prompts with a seed each; yield the next token of every row, int32 [B]."""
    texts = [
        generate_with_logits(generator, prompt, replace(sample, seed=int(seed)))
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    for steps in zip(*texts, strict=True):
        yield np.array([int(drawn) for _, drawn in steps], np.int32)
