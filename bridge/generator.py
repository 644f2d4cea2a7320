"""Token generation: the GPT, its cache and the sampler as one scriptable module.

`bridge.streaming` uses it in Python. `bridge.text_generator` adds text, for a file.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from bridge.gpt import to_module
from bridge.sampler import SamplingParams, check_range, check_settings, sample_tokens
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.text_generation import seed_range, window_start


class Cache(NamedTuple):
    """The tokens of a window that the model has read."""

    keys_values: Tensor  # [L, 2, B, H, n_positions, K]; `step` changes them in place
    # Where rows have different lengths, both numbers are those of the first row.
    start: int  # index in the text of the window's first token
    length: int  # number of tokens of the window that have been read


class Batch(NamedTuple):
    """Texts that are generated together."""

    tokens: Tensor  # int64 [B, N]; row r has counts[r] tokens, and perhaps room for more
    counts: list[int]  # number of tokens in each row
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
        """Return an empty cache for a batch of rows."""
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

        Row r of tokens [B, N] has counts[r] tokens; what follows them is ignored.
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
            else:  # The logits of moved rows are replaced below.
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
        params = SamplingParams(
            temperature, top_k, top_p, min_p, repetition_penalty, min_new_tokens, self.end_of_text
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
        params = SamplingParams(
            temperature, top_k, top_p, min_p, repetition_penalty, min_new_tokens, self.end_of_text
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

        The tokens are written in place while there is room, and otherwise move to a tensor of twice
        the size. So memory grows with the text, not with `max_new_tokens`.

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
        """Return the batch of some rows of `batch`, which `extend` returned."""
        tokens, counts, seeds, cache = batch
        index = torch.tensor(rows, dtype=torch.int64, device=tokens.device)
        counts = [counts[row] for row in rows]
        start = window_start(counts[0] - 1, self.gpt.n_positions)
        keys_values = cache.keys_values.index_select(2, index)
        cache = Cache(keys_values, start, counts[0] - 1 - start)
        return Batch(tokens.index_select(0, index), counts, [seeds[row] for row in rows], cache)


def gather_windows(tokens: Tensor, starts: list[int], lengths: list[int]) -> Tensor:
    """Return lengths[r] tokens of each row from starts[r] on; the last one pads shorter rows."""
    first = torch.tensor(starts, dtype=torch.int64, device=tokens.device).unsqueeze(1)
    last = torch.tensor(lengths, dtype=torch.int64, device=tokens.device).unsqueeze(1) - 1
    offsets = torch.arange(max(lengths), device=tokens.device).unsqueeze(0)
    return tokens.gather(1, first + torch.minimum(offsets, last))


def should_shrink(rows: int, needed: int) -> bool:
    """Return whether to copy the rows that are still needed to a smaller batch.

    A copy has at most three quarters of the rows, so all copies together cost at most 3 batches.
    """
    return 4 * needed <= 3 * rows


def pad_rows(rows: list[list[int]], device: torch.device) -> Tensor:
    """Return rows of tokens as int64 [B, N], N the longest row, filled with zeros."""
    longest = max([len(row) for row in rows])
    padded = torch.zeros(len(rows), longest, dtype=torch.int64, device=device)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = torch.tensor(row, dtype=torch.int64, device=device)
    return padded


def check_length(max_new_tokens: int) -> None:
    """Raise a ValueError unless the number of tokens to generate is in range."""
    is_in_range, found = 1 <= max_new_tokens < 2147483648, f"{max_new_tokens}"
    check_range("max_new_tokens", is_in_range, "1 to 2147483647", found, "pass another one")
