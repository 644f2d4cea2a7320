"""Text in, text out: the GPT, its tokenizer and the sampler as one scriptable module.

This is what `bridge.torchscript` writes to a file, and what `python -m bridge generate` runs as it stands.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from valyrian_jax.bundle import Bundle
from valyrian_jax.config import SampleConfig
from valyrian_jax.prompt import sample_settings

from . import weights
from .sampling import check_settings, next_tokens
from .text import ByteBPE, well_formed


class Cache(NamedTuple):
    """What has been read of a text: keys and values [L, 2, B, H, n_positions, K], changed in place by `step`, where the
    window on the text begins, and how many tokens of the window were read.
    """

    keys_values: Tensor
    start: int
    length: int


class Generator(nn.Module):
    """All methods take and give tensors on the CPU or wherever the weights are; token ids are int64."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.gpt = weights.to_module(bundle)
        self.bpe = ByteBPE(bundle.tokenizer)
        self.end_of_text = bundle.tokenizer.end_of_text
        s = sample_settings(bundle, {})
        self.sample_settings = (s.max_new_tokens, s.temperature, s.top_k, s.top_p, s.seed)

    @torch.jit.export
    def defaults(self) -> tuple[int, float, int, float, int]:
        """How the bundle's run drew its samples: max_new_tokens, temperature, top_k, top_p, seed."""
        return self.sample_settings

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [B, T, V] of every next token after tokens [B, T], T <= n_positions."""
        return self.gpt(tokens)

    @torch.jit.export
    def new_cache(self, rows: int) -> Cache:
        """A cache for B rows of which nothing has been read."""
        return Cache(self.gpt.empty_cache(rows), 0, 0)

    @torch.jit.export
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
            logits = self.gpt.read(tokens.narrow(1, start + done, N - start - done), cache.keys_values, done)
        return logits, Cache(cache.keys_values, start, N - start)

    @torch.jit.export
    def sample(self, logits: Tensor, index: int, temperature: float, top_k: int, top_p: float, seed: int) -> Tensor:
        """Draw token `index` (counted from 0) of every row from logits [B, V]: tokens [B]."""
        check_settings(temperature, top_k, top_p, seed)
        return next_tokens(logits, index, temperature, top_k, top_p, seed)

    @torch.jit.export
    def generate(
        self, tokens: Tensor, max_new_tokens: int, temperature: float, top_k: int, top_p: float, seed: int
    ) -> Tensor:
        """Continue tokens [B, N], N >= 1, to [B, N + max_new_tokens]; row r draws with seed + r."""
        return self.extend(tokens, max_new_tokens, temperature, top_k, top_p, seed, -1)

    @torch.jit.export
    def generate_text(
        self, prompt: str, max_new_tokens: int, temperature: float, top_k: int, top_p: float, seed: int
    ) -> str:
        """Continue a prompt until the document ends or for max_new_tokens: the whole text, prompt included.

        An empty prompt is the beginning of a document.
        """
        ids = self.encode(prompt)
        start = ids if len(ids) > 0 else [self.end_of_text]
        tokens = torch.tensor([start], dtype=torch.int64, device=self.bpe.byte_ids.device)
        out = self.extend(tokens, max_new_tokens, temperature, top_k, top_p, seed, self.end_of_text)
        new: list[int] = out[0, len(start) :].tolist()
        return self.decode(ids) + self.decode(new)

    def extend(
        self, tokens: Tensor, max_new_tokens: int, temperature: float, top_k: int, top_p: float, seed: int, stop: int
    ) -> Tensor:
        """As `generate`, up to the token `stop` (left out) once all rows have it at the same place."""
        B, N = tokens.shape
        out = torch.zeros(B, N + max_new_tokens, dtype=torch.int64, device=tokens.device)
        out[:, :N] = tokens
        cache = self.new_cache(B)
        for count in range(N, N + max_new_tokens):
            logits, cache = self.step(out.narrow(1, 0, count), cache)
            drawn = self.sample(logits, count - N, temperature, top_k, top_p, seed)
            if stop >= 0 and bool((drawn == stop).all()):
                return out[:, :count]
            out.select(1, count).copy_(drawn)
        return out

    @torch.jit.export
    def encode(self, text: str) -> list[int]:
        """Token ids of a text; in TorchScript, where a str is bytes, of any bytes."""
        if torch.jit.is_scripting():
            data = [ord(byte) for byte in list(text)]  # a loop over the str itself is quadratic
        else:
            data = list(text.encode())
        ids: list[int] = self.bpe.encode(
            torch.tensor(data, dtype=torch.int64, device=self.bpe.byte_ids.device)
        ).tolist()
        return ids

    @torch.jit.export
    def decode(self, ids: list[int]) -> str:
        """Text of token ids, with U+FFFD for every part that is not UTF-8."""
        for i in ids:
            if i < 0 or i >= self.bpe.vocab_size:
                raise ValueError("a token id is outside the vocabulary")
        tokens = torch.tensor(ids, dtype=torch.int64, device=self.bpe.byte_ids.device)
        data: list[int] = well_formed(self.bpe.decode(tokens)).tolist()
        if torch.jit.is_scripting():
            return "".join([chr(byte) for byte in data])
        return bytes(data).decode()


def window_start(count: int, n_positions: int) -> int:
    """Where the window begins after `count` tokens: halves are dropped, oldest first, until the rest fits."""
    half = n_positions // 2
    return half * max(0, (count - n_positions + half - 1) // half)


def stream(
    generator: Generator, prompt: Sequence[int], sample: SampleConfig, rows: int = 1
) -> Iterator[npt.NDArray[np.int32]]:
    """Continue a prompt in B = rows independent rows; yields the next token of every row, int32 [B], one at a time."""
    device = generator.bpe.byte_ids.device
    tokens = torch.zeros(rows, len(prompt) + sample.max_new_tokens, dtype=torch.int64, device=device)
    tokens[:, : len(prompt)] = torch.tensor(prompt)
    cache = generator.new_cache(rows)
    for index in range(sample.max_new_tokens):
        count = len(prompt) + index
        logits, cache = generator.step(tokens[:, :count], cache)
        drawn = generator.sample(logits, index, sample.temperature, sample.top_k, sample.top_p, sample.seed)
        tokens[:, count] = drawn
        yield drawn.to(torch.int32).cpu().numpy()
