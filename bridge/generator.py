"""From tokens to more tokens: the GPT and the sampler as one scriptable module.

`python -m bridge generate` runs it as it stands; `bridge.torchscript` adds the text and writes it to a file.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bridge.gpt import to_module
from bridge.sampler import check_settings, sample_tokens
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.config import SampleConfig


class Cache(NamedTuple):
    """What has been read of a text: keys and values [L, 2, B, H, n_positions, K], changed in place by `step`, where the
    window on the text begins, and how many tokens of the window were read.
    """

    keys_values: Tensor
    start: int
    length: int


class Generator(nn.Module):
    """Token ids are int64 tensors, on the device of the weights."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.gpt = to_module(bundle)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [B, T, V] of every next token after tokens [B, T], T <= n_positions."""
        return self.gpt(tokens)

    def new_cache(self, rows: int) -> Cache:
        """A cache for B rows of which nothing has been read."""
        return Cache(self.gpt.empty_cache(rows, self.gpt.n_positions), 0, 0)

    def step(self, tokens: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Read what the cache lacks of all tokens so far [B, N]: logits [B, V] after them, and the cache with them.

        Tokens that were read must not change. When the window is full its older half is dropped, the rest read again.
        """
        N, n_positions = tokens.shape[1], self.gpt.n_positions
        start = window_start(N, n_positions)
        done = cache.length if start == cache.start else 0
        if start + done >= N:
            raise ValueError("there are no tokens to read")
        with torch.no_grad():
            logits = self.gpt.read(
                tokens.narrow(1, start + done, N - start - done), cache.keys_values, done
            )
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
        stop: int,
    ) -> Tensor:
        """As `generate`; with stop >= 0 one row only, which ends before that token."""
        if max_new_tokens < 0:
            raise ValueError("max_new_tokens must not be negative")
        B, N = tokens.shape
        out = torch.zeros(B, N + max_new_tokens, dtype=torch.int64, device=tokens.device)
        out[:, :N] = tokens
        cache = self.new_cache(B)
        for count in range(N, N + max_new_tokens):
            logits, cache = self.step(out.narrow(1, 0, count), cache)
            drawn = self.sample(logits, count - N, temperature, top_k, top_p, seed)
            if stop >= 0 and drawn.item() == stop:
                return out[:, :count]
            out.select(1, count).copy_(drawn)
        return out


def window_start(count: int, n_positions: int) -> int:
    """Where the window begins after `count` tokens: halves are dropped, oldest first, until the rest fits."""
    half = n_positions // 2
    return half * max(0, (count - n_positions + half - 1) // half)


def generate_with_logits(
    generator: Generator, prompt: Sequence[int], sample: SampleConfig, rows: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """Continue a prompt in B = rows independent rows; yields, one token at a time, the logits [B, V] and what was drawn
    from them, int64 [B].
    """
    device = generator.gpt.transformer.wte.weight.device
    tokens = torch.zeros(
        rows, len(prompt) + sample.max_new_tokens, dtype=torch.int64, device=device
    )
    tokens[:, : len(prompt)] = torch.tensor(prompt)
    cache = generator.new_cache(rows)
    for index in range(sample.max_new_tokens):
        count = len(prompt) + index
        logits, cache = generator.step(tokens[:, :count], cache)
        drawn = generator.sample(
            logits, index, sample.temperature, sample.top_k, sample.top_p, sample.seed
        )
        tokens[:, count] = drawn
        yield logits, drawn


def stream(
    generator: Generator, prompt: Sequence[int], sample: SampleConfig, rows: int = 1
) -> Iterator[npt.NDArray[np.int32]]:
    """Continue a prompt in B = rows independent rows; yields the next token of every row, int32 [B], one at a time."""
    for _, drawn in generate_with_logits(generator, prompt, sample, rows):
        yield drawn.to(torch.int32).cpu().numpy()
