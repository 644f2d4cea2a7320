"""Text from any token generator: settings and a prompt in, the same text out in JAX and PyTorch."""

import codecs
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.memory import MAX_TEXTS
from valyrian_jax.config import SampleConfig, config_from_tree
from valyrian_jax.tokenizer import Tokenizer

NOT_FINITE = (
    "the logits are not finite: expected finite numbers, found NaN or infinity, because the "
    "weights overflow float32; use other weights, or train again with a lower --optim.lr"
)

TokenGenerator = Callable[[Sequence[int], SampleConfig, int], Iterator[npt.NDArray[np.int32]]]
"""A function of prompt, settings and number of texts. It yields the next token of every text,
int32[texts], settings.max_new_tokens times."""


def resolve_sample_config(bundle: Bundle, overrides: Mapping[str, Any]) -> SampleConfig:
    """Return the overrides, completed by the sample settings of the bundle's run and by defaults.

    The prompt of the run is not used.
    """
    stored = bundle.manifest.get("config", {}).get("sample")
    run_settings = stored if isinstance(stored, Mapping) else {}
    return config_from_tree({"sample": {**run_settings, "prompt": "", **overrides}}).sample


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Return the tokens of a prompt; an empty prompt is the beginning of a document."""
    return tokenizer.encode(prompt) or [tokenizer.end_of_text]


def take_until_end_of_text(tokenizer: Tokenizer, ids: Iterable[int]) -> Iterator[int]:
    """Yield tokens up to the end of the document."""
    return itertools.takewhile(lambda i: i != tokenizer.end_of_text, ids)


def stream_text(tokenizer: Tokenizer, ids: Iterable[int]) -> Iterator[str]:
    """Yield text as its tokens arrive, in whole characters, up to the end of the document."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for i in take_until_end_of_text(tokenizer, ids):
        yield decoder.decode(tokenizer.decode_bytes([i]))
    yield decoder.decode(b"", final=True)


def generate_tokens(
    generate: TokenGenerator, tokenizer: Tokenizer, sample: SampleConfig, rows: int
) -> list[list[int]]:
    """Generate texts together; return the tokens of each after the prompt.

    Text r uses seed + r.
    """
    columns, has_ended = [], np.zeros(rows, bool)
    for column in generate(encode_prompt(tokenizer, sample.prompt), sample, rows):
        columns.append(column)
        has_ended |= column == tokenizer.end_of_text
        if has_ended.all():
            break
    return [list(take_until_end_of_text(tokenizer, row.tolist())) for row in np.stack(columns).T]


def generate_texts(
    generate: TokenGenerator, tokenizer: Tokenizer, sample: SampleConfig, rows: int = 1
) -> list[str]:
    """Generate texts together; return each with its prompt. Text r uses seed + r."""
    texts = generate_tokens(generate, tokenizer, sample, rows)
    return [sample.prompt + "".join(stream_text(tokenizer, ids)) for ids in texts]


def generate_many_tokens(
    generate: TokenGenerator,
    tokenizer: Tokenizer,
    sample: SampleConfig,
    count: int,
    batch_size: int = MAX_TEXTS,
) -> Iterator[list[int]]:
    """Yield the tokens of any number of texts, generated `batch_size` at a time.

    Text r uses (seed + r) mod 2^32, whatever the batches.
    """
    for first in range(0, count, batch_size):
        batch = replace(sample, seed=(sample.seed + first) % 2**32)
        yield from generate_tokens(generate, tokenizer, batch, min(batch_size, count - first))


def generate_many_texts(
    generate: TokenGenerator,
    tokenizer: Tokenizer,
    sample: SampleConfig,
    count: int,
    batch_size: int = MAX_TEXTS,
) -> Iterator[str]:
    """Yield any number of texts with their prompts, generated `batch_size` at a time."""
    for ids in generate_many_tokens(generate, tokenizer, sample, count, batch_size):
        yield sample.prompt + "".join(stream_text(tokenizer, ids))
