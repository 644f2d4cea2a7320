"""Text from any token generator: settings and a prompt in, the same text out in JAX and PyTorch."""

import codecs
import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.memory import MAX_TEXTS
from valyrian_jax.config import SampleConfig, config_from_tree
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer

NOT_FINITE = (
    "the logits are not finite: expected finite numbers, found NaN or infinity, because the "
    "weights overflow float32; use other weights, or train again with a lower --optim.lr"
)

TokenColumns = Generator[npt.NDArray[np.int32], Sequence[int] | None]
"""The next token of every text, int32[texts], once for each new token. The caller may send the rows
that it still needs, fewer each time; tokens of the others then have no meaning."""

TokenGenerator = Callable[[Sequence[Sequence[int]], Sequence[int], SampleConfig], TokenColumns]
"""A function of prompts, their seeds and settings, whose prompt, seed and stop it does not use. It
yields settings.max_new_tokens times. The prompts may have different lengths; the tokens of each are
those that it has alone."""


class StopScanner:
    """Finds the first stop string in bytes that arrive in chunks, whatever the chunks are.

    The first is the one that is complete first; of two that end together, the longer one.

    Attributes:
        has_stopped: Whether a stop string has been found.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = [text.encode() for text in stop]
        self._pending = b""
        self.has_stopped = False

    def add(self, chunk: bytes) -> bytes:
        """Take the next bytes; return all bytes that can no longer be part of a stop string."""
        if not self._stop:
            return chunk
        data = self._pending + chunk
        ends = [(i + len(s), i) for s in self._stop if (i := data.find(s)) >= 0]
        self.has_stopped = bool(ends)
        size = min(ends)[1] if ends else len(data) - self._count_pending(data)
        self._pending = b"" if ends else data[size:]
        return data[:size]

    def finish(self) -> bytes:
        """Return the bytes that were held back, once the text has ended without a stop string."""
        return self._pending

    def _count_pending(self, data: bytes) -> int:
        """Return the length of the longest suffix of the data that is a prefix of a stop string."""
        longest = min(len(data), max(map(len, self._stop)) - 1)
        for size in range(longest, 0, -1):
            if data.endswith(tuple(text[:size] for text in self._stop)):
                return size
        return 0


def resolve_sample_config(bundle: Bundle, overrides: Mapping[str, Any]) -> SampleConfig:
    """Complete overrides by the sample settings of the bundle's run and by the defaults.

    The prompt of the run is not used.
    """
    stored = bundle.manifest.get("config", {}).get("sample")
    run_settings = stored if isinstance(stored, Mapping) else {}
    names = {f"sample.{name}": name for name in (*vars(SampleConfig()), *overrides)}
    return config_from_tree(
        {"sample": {**run_settings, "prompt": ""}},
        {f"sample.{name}": value for name, value in overrides.items()},
        source="the settings of the run",
        names=names,
    ).sample


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Return the tokens of a prompt; an empty prompt is the beginning of a document."""
    return tokenizer.encode(prompt) or [tokenizer.end_of_text]


def encode_within_context(bundle: Bundle, prompt: str) -> list[int]:
    """Return the tokens of `encode_prompt`, after checking that they fit into the context."""
    tokens = encode_prompt(bundle.tokenizer, prompt)
    if len(tokens) > bundle.model.n_positions:
        raise UserError(
            f"the prompt has {len(tokens)} tokens, but the context of the model is "
            f"{bundle.model.n_positions}; use a shorter prompt"
        )
    return tokens


def take_until_end_of_text(tokenizer: Tokenizer, ids: Iterable[int]) -> Iterator[int]:
    """Yield tokens up to the end of the document."""
    return itertools.takewhile(lambda i: i != tokenizer.end_of_text, ids)


# TorchScript also compiles the next two functions, and it would treat 2**32 as a float.


def seed_range(seed: int, count: int) -> list[int]:
    """Return the seeds of texts that are generated together: seed, seed + 1, ... (mod 2^32)."""
    return [(seed + row) % 4294967296 for row in range(count)]


def window_start(count: int, n_positions: int) -> int:
    """Return where the window starts after `count` tokens; it moves by halves until they fit."""
    half = n_positions // 2
    return half * max(0, (count - n_positions + half - 1) // half)


def stream_text(
    tokenizer: Tokenizer, ids: Iterable[int], stop: Sequence[str] = ()
) -> Iterator[str]:
    """Yield text as its tokens arrive, in whole characters.

    It ends at the end of the document, or before the first stop string. Bytes that could still
    become a stop string are held back.
    """
    decoder, scanner = codecs.getincrementaldecoder("utf-8")("replace"), StopScanner(stop)
    for i in take_until_end_of_text(tokenizer, ids):
        yield decoder.decode(scanner.add(tokenizer.decode_bytes([i])))
        if scanner.has_stopped:
            break
    yield decoder.decode(scanner.finish(), final=True)


def decode_tokens(
    tokenizer: Tokenizer, ids: Iterable[int], stop: Sequence[str] = ()
) -> Iterator[bytes]:
    """Yield the bytes of each token of a text, up to where `stream_text` ends it.

    The last token is cut if a stop string begins inside it. A token is held back while a stop
    string could still begin in it.
    """
    pending: list[bytes] = []
    scanner, ready = StopScanner(stop), 0
    for i in take_until_end_of_text(tokenizer, ids):
        pending.append(tokenizer.decode_bytes([i]))
        ready += len(scanner.add(pending[-1]))
        while pending and len(pending[0]) <= ready:
            ready -= len(pending[0])
            yield pending.pop(0)
        if scanner.has_stopped:
            pending = [pending[0][:ready]] if ready else []
            break
    yield from pending


def generate_tokens(
    generate: TokenGenerator,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sample: SampleConfig,
) -> list[list[int]]:
    """Generate texts together; return the new tokens of each, without the prompt.

    They stop before <|endoftext|>, or with the token that completes a stop string.
    """
    texts: list[list[int]] = [[] for _ in prompts]
    scanners = [StopScanner(sample.stop) for _ in prompts]
    unfinished, end = [*range(len(prompts))], tokenizer.end_of_text
    encoded = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    columns = generate(encoded, seeds, sample)
    with contextlib.suppress(StopIteration):
        tokens = next(columns).tolist()
        while True:
            unfinished = [row for row in unfinished if tokens[row] != end]
            for row in unfinished:
                texts[row].append(tokens[row])
            if sample.stop:
                for row in unfinished:
                    scanners[row].add(tokenizer.decode_bytes([tokens[row]]))
                unfinished = [row for row in unfinished if not scanners[row].has_stopped]
            if not unfinished:
                break
            tokens = columns.send(unfinished).tolist()
    return texts


def generate_texts(
    generate: TokenGenerator,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sample: SampleConfig,
    batch_size: int = MAX_TEXTS,
) -> list[str]:
    """Return a text for every prompt and its seed, with the prompt, `batch_size` at a time.

    Each text is the one that its prompt and seed give alone. The prompt and the seed of `sample`
    are not used.
    """
    texts = []
    for first in range(0, len(prompts), batch_size):
        batch = prompts[first : first + batch_size]
        ids = generate_tokens(generate, tokenizer, batch, seeds[first : first + batch_size], sample)
        texts += [
            prompt + "".join(stream_text(tokenizer, row, sample.stop))
            for prompt, row in zip(batch, ids, strict=True)
        ]
    return texts


def generate_many_tokens(
    generate: TokenGenerator,
    tokenizer: Tokenizer,
    sample: SampleConfig,
    count: int,
    batch_size: int = MAX_TEXTS,
) -> Iterator[list[int]]:
    """Yield the tokens of any number of texts of one prompt, generated `batch_size` at a time.

    Text r uses (seed + r) mod 2^32, whatever the batches.
    """
    for first in range(0, count, batch_size):
        seeds = seed_range(sample.seed + first, min(batch_size, count - first))
        prompts = [sample.prompt] * len(seeds)
        yield from generate_tokens(generate, tokenizer, prompts, seeds, sample)


def generate_many_texts(
    generate: TokenGenerator,
    tokenizer: Tokenizer,
    sample: SampleConfig,
    count: int,
    batch_size: int = MAX_TEXTS,
) -> Iterator[str]:
    """Yield any number of texts of one prompt, generated `batch_size` at a time."""
    for ids in generate_many_tokens(generate, tokenizer, sample, count, batch_size):
        yield sample.prompt + "".join(stream_text(tokenizer, ids, sample.stop))
