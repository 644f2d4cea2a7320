"""Token generation: the GPT, its cache and the sampler as one scriptable module.

`python -m bridge generate` uses it directly. `bridge.torchscript` adds text and writes a file.
"""

import contextlib
from collections.abc import Generator as Stream
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bridge.gpt import to_module
from bridge.sampler import SamplingParams, check_settings, sample_tokens
from bridge.torch_settings import pin_torch_settings
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.text_generation import TokenColumns
from valyrian_jax.config import SampleConfig


class Cache(NamedTuple):
    """The tokens of a window that the model has read."""

    keys_values: Tensor  # [L, 2, B, H, n_positions, K]; `step` changes them in place
    start: int  # index in the text of the window's first token; of the first row if they differ
    length: int  # number of tokens of the window that have been read, likewise


class Batch(NamedTuple):
    """Texts that are generated together."""

    tokens: Tensor  # [B, N]; row r has counts[r], and perhaps room after them
    counts: list[int]  # number of tokens of each row
    seeds: list[int]
    cache: Cache


class Generator(nn.Module):
    """A GPT that generates tokens; token ids are int64 tensors on the device of the weights."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.gpt = to_module(bundle)
        self.end_of_text = bundle.tokenizer.end_of_text

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

    def step_rows(self, tokens: Tensor, counts: list[int], cache: Cache) -> tuple[Tensor, Cache]:
        """Like `step`, for rows of different lengths, each one token longer than in the last step.

        Row r of tokens [B, N] has counts[r], and anything after them.
        """
        B, n_positions = len(counts), self.gpt.n_positions
        starts = [window_start(count, n_positions) for count in counts]
        lengths = [counts[row] - starts[row] for row in range(B)]
        moved: list[int] = []  # rows whose windows are read again
        for row in range(B):
            previous = window_start(counts[row] - 1, n_positions)
            if cache.length == 0 or starts[row] != previous:
                moved.append(row)
        rows = torch.tensor(moved, dtype=torch.int64, device=tokens.device)
        # TorchScript cannot return from inside `with`.
        with torch.no_grad():
            if len(moved) == B:
                logits = self.read_windows(tokens, rows, starts, lengths, cache.keys_values)
            else:  # What this computes for a moved row is replaced below.
                newest = gather_windows(tokens, [count - 1 for count in counts], [1] * B)
                positions = [length - 1 for length in lengths]
                logits = self.gpt.forward_rows(newest, cache.keys_values, positions)
                if len(moved) > 0:
                    read = self.read_windows(tokens, rows, starts, lengths, cache.keys_values)
                    logits.index_copy_(0, rows, read)
        return logits, Cache(cache.keys_values, starts[0], lengths[0])

    def read_windows(
        self,
        tokens: Tensor,
        rows: Tensor,
        starts: list[int],
        lengths: list[int],
        keys_values: Tensor,
    ) -> Tensor:
        """Return the logits [R, V] after the windows of some rows, int64 [R].

        Window b has lengths[b] tokens and begins at starts[b] in tokens [B, N]. Its keys and values
        replace those of a cache for B rows. A window is padded to the longest one that is read with
        it, so those of similar lengths are read together.
        """
        all_sizes = torch.tensor(lengths, dtype=torch.int64, device=rows.device)
        by_length = all_sizes[rows].argsort()
        logits: list[Tensor] = []
        for group in rows[by_length].split(8):
            members: list[int] = group.tolist()
            sizes = [lengths[row] for row in members]
            windows = gather_windows(tokens[group], [starts[row] for row in members], sizes)
            read = self.gpt.make_cache(len(members), windows.shape[1])
            logits.append(self.gpt.forward_windows(windows, read, sizes))
            keys_values.narrow(4, 0, windows.shape[1]).index_copy_(2, group, read)
        return torch.cat(logits)[by_length.argsort()]

    def sample(
        self,
        logits: Tensor,
        index: int,
        temperature: float,
        top_k: int,
        top_p: float,
        seed: int,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        min_new_tokens: int = 0,
        window: Tensor | None = None,
    ) -> Tensor:
        """Draw token `index` (counted from 0) of every row from logits [B, V]: tokens [B].

        A repetition penalty needs the tokens of the window [B, W] that gave the logits; those of a
        cache begin at `cache.start`.
        """
        params = self.make_params(
            temperature, top_k, top_p, min_p, repetition_penalty, min_new_tokens
        )
        check_settings(params, [seed])
        return sample_tokens(logits, index, params, seed_range(seed, logits.shape[0]), window)

    def generate(
        self,
        tokens: Tensor,
        max_new_tokens: int,
        temperature: float,
        top_k: int,
        top_p: float,
        seed: int,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        min_new_tokens: int = 0,
    ) -> Tensor:
        """Continue tokens [B, N], N >= 1, to [B, N + max_new_tokens]; row r draws with seed + r."""
        params = self.make_params(
            temperature, top_k, top_p, min_p, repetition_penalty, min_new_tokens
        )
        check_settings(params, [seed])
        check_length(max_new_tokens)
        B, N = tokens.shape
        out = torch.zeros(B, N + max_new_tokens, dtype=torch.int64, device=tokens.device)
        out[:, :N] = tokens
        batch = Batch(out, [N] * B, seed_range(seed, B), self.new_cache(B))
        for index in range(max_new_tokens):
            _, _, batch = self.extend(batch, index, params)
        return batch.tokens

    def extend(
        self, batch: Batch, index: int, params: SamplingParams
    ) -> tuple[Tensor, Tensor, Batch]:
        """Draw token `index` of every row and write it after the row's tokens.

        The tokens of the batch change in place while they have room, and then move to twice as
        much, so that memory follows the text and not the length that it may have.

        Returns:
            The logits [B, V], the tokens [B] drawn from them, and the longer rows.
        """
        tokens, counts, seeds, cache = batch
        count = counts[0]
        is_even = min(counts) == max(counts)
        if is_even:
            logits, cache = self.step(tokens.narrow(1, 0, count), cache)
        else:
            logits, cache = self.step_rows(tokens, counts, cache)
        window: Tensor | None = None
        if params.repetition_penalty != 1:
            starts = [window_start(count, self.gpt.n_positions) for count in counts]
            lengths = [counts[row] - starts[row] for row in range(len(counts))]
            window = gather_windows(tokens, starts, lengths)
        drawn = sample_tokens(logits, index, params, seeds, window)
        if max(counts) == tokens.shape[1]:
            tokens = torch.cat([tokens, torch.zeros_like(tokens)], 1)
        if is_even:
            tokens.select(1, count).copy_(drawn)
        else:
            ends = torch.tensor(counts, dtype=torch.int64, device=tokens.device)
            tokens.scatter_(1, ends.unsqueeze(1), drawn.unsqueeze(1))
        return logits, drawn, Batch(tokens, [count + 1 for count in counts], seeds, cache)

    def select_rows(self, batch: Batch, rows: list[int]) -> Batch:
        """Return some rows of a batch that `extend` has returned."""
        tokens, counts, seeds, cache = batch
        index = torch.tensor(rows, dtype=torch.int64, device=tokens.device)
        counts = [counts[row] for row in rows]
        start = window_start(counts[0] - 1, self.gpt.n_positions)
        keys_values = cache.keys_values.index_select(2, index)
        cache = Cache(keys_values, start, counts[0] - 1 - start)
        return Batch(tokens.index_select(0, index), counts, [seeds[row] for row in rows], cache)

    def make_params(
        self,
        temperature: float,
        top_k: int,
        top_p: float,
        min_p: float,
        repetition_penalty: float,
        min_new_tokens: int,
    ) -> SamplingParams:
        """Return the sampler's settings for this model."""
        return SamplingParams(
            temperature, top_k, top_p, min_p, repetition_penalty, min_new_tokens, self.end_of_text
        )


def window_start(count: int, n_positions: int) -> int:
    """Return the index of the window's first token after `count` tokens.

    The window drops halves of n_positions, oldest first, until the remaining tokens fit. It must
    equal `valyrian_jax.generation.generate.window_start`, because the texts depend on it.
    """
    half = n_positions // 2
    return half * max(0, (count - n_positions + half - 1) // half)


def gather_windows(tokens: Tensor, starts: list[int], lengths: list[int]) -> Tensor:
    """Return lengths[r] tokens from starts[r] on of each row; the last one fills shorter rows."""
    first = torch.tensor(starts, dtype=torch.int64, device=tokens.device).unsqueeze(1)
    last = torch.tensor(lengths, dtype=torch.int64, device=tokens.device).unsqueeze(1) - 1
    offsets = torch.arange(max(lengths), device=tokens.device).unsqueeze(0)
    return tokens.gather(1, first + torch.minimum(offsets, last))


def should_shrink(rows: int, needed: int) -> bool:
    """Return whether a batch of which fewer rows are needed should copy them to a smaller one.

    With a quarter less every time, all copies together are at most three batches.
    """
    return 4 * needed <= 3 * rows


def pad_rows(rows: list[list[int]], device: torch.device) -> Tensor:
    """Return rows of tokens as int64 [B, N], N the longest row, filled with zeros."""
    longest = max([len(row) for row in rows])
    padded = torch.zeros(len(rows), longest, dtype=torch.int64, device=device)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = torch.tensor(row, dtype=torch.int64, device=device)
    return padded


def seed_range(seed: int, rows: int) -> list[int]:
    """Return the seed of each row: seed, seed + 1, ... (mod 2^32)."""
    return [(seed + row) % 4294967296 for row in range(rows)]


def check_length(max_new_tokens: int) -> None:
    """Check the number of tokens to generate."""
    if not 1 <= max_new_tokens < 2147483648:
        raise ValueError(
            f"max_new_tokens is out of range: expected 1 to 2147483647, found {max_new_tokens}; "
            "pass another one"
        )


def generate_with_logits(
    generator: Generator,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    sample: SampleConfig,
) -> Stream[tuple[Tensor, Tensor], Sequence[int] | None]:
    """Continue prompts of any lengths together; each gives the tokens that it gives alone.

    Args:
        generator: The model.
        prompts: B prompts of at least one token id each; they can be longer than the window.
        seeds: Seed of each prompt.
        sample: Settings of the sampler; its prompt, seed and stop strings are not used.

    Yields:
        For every new token the logits [B, V] and the tokens drawn from them, int64 [B]. The caller
        may send the rows that it still needs; those of the others then have no meaning.

    Raises:
        UserError: The logits of a token are not finite.
    """
    if not prompts or not all(map(len, prompts)):
        raise ValueError("empty prompt: expected at least one token; pass the end-of-text token")
    if len(seeds) != len(prompts):
        raise ValueError(f"expected a seed for each of {len(prompts)} prompts, found {len(seeds)}")
    params = generator.make_params(
        sample.temperature,
        sample.top_k,
        sample.top_p,
        sample.min_p,
        sample.repetition_penalty,
        sample.min_new_tokens,
    )
    seeds = [int(seed) for seed in seeds]
    check_settings(params, seeds)
    device = generator.gpt.transformer.wte.weight.device
    with pin_torch_settings():
        tokens = pad_rows([list(prompt) for prompt in prompts], device)
        counts = [len(prompt) for prompt in prompts]
        batch = Batch(tokens, counts, seeds, generator.new_cache(len(prompts)))
    rows = list(range(len(prompts)))  # those in the batch
    for index in range(sample.max_new_tokens):
        with pin_torch_settings():  # never across a yield, where the caller's code runs
            logits, drawn, batch = generator.extend(batch, index, params)
            if len(rows) < len(prompts):
                place = torch.tensor(rows, device=device)
                logits = logits.new_zeros(len(prompts), logits.shape[1]).index_copy(
                    0, place, logits
                )
                drawn = drawn.new_zeros(len(prompts)).index_copy(0, place, drawn)
        needed = yield logits, drawn
        if needed is not None and should_shrink(len(rows), len(needed)):
            with pin_torch_settings():
                batch = generator.select_rows(batch, [rows.index(row) for row in needed])
            rows = list(needed)


def stream(
    generator: Generator,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    sample: SampleConfig,
) -> TokenColumns:
    """Continue prompts with a seed each; yield the next token of every row, int32 [B].

    This is a `TokenGenerator` of `valyrian_jax.bundle.text_generation`.
    """
    steps, needed = generate_with_logits(generator, prompts, seeds, sample), None
    with contextlib.suppress(StopIteration):
        while True:
            _, drawn = steps.send(needed)
            needed = yield drawn.to(torch.int32).cpu().numpy()
