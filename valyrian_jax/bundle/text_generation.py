"""Around any generator of tokens: settings and a prompt go in, text comes out, the same in JAX and PyTorch."""

import codecs
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.config import SampleConfig, config_from_tree
from valyrian_jax.tokenizer import Tokenizer

# (prompt, settings, rows) -> the next token of every row, int32[rows], settings.max_new_tokens times
TEXTS_AT_A_TIME = 64  # texts drawn at a time
TokenGenerator = Callable[[Sequence[int], SampleConfig, int], Iterator[npt.NDArray[np.int32]]]


def resolve_sample_config(bundle: Bundle, given: Mapping[str, Any]) -> SampleConfig:
    """How to draw: as given, else as the bundle's run drew its samples, else by default."""
    stored = bundle.manifest.get("config", {}).get("sample")
    known = stored if isinstance(stored, Mapping) else {}
    return config_from_tree({"sample": {**known, "prompt": "", **given}}).sample


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The tokens of a prompt; an empty one is the beginning of a document."""
    return tokenizer.encode(prompt) or [tokenizer.end_of_text]


def until_end_of_text(tokenizer: Tokenizer, ids: Iterable[int]) -> Iterator[int]:
    """Tokens as they arrive, up to the end of the document."""
    return itertools.takewhile(lambda i: i != tokenizer.end_of_text, ids)


def stream_text(tokenizer: Tokenizer, ids: Iterable[int]) -> Iterator[str]:
    """Text as its tokens arrive, up to the end of the document; half a character waits for its other half."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for i in until_end_of_text(tokenizer, ids):
        yield decoder.decode(tokenizer.decode_bytes([i]))
    yield decoder.decode(b"", final=True)


def generate_texts(
    generate: TokenGenerator, tokenizer: Tokenizer, sample: SampleConfig, rows: int = 1
) -> list[str]:
    """Whole texts, prompt included; row r draws with seed + r."""
    drawn = generate_tokens(generate, tokenizer, sample, rows)
    return [sample.prompt + "".join(stream_text(tokenizer, ids)) for ids in drawn]


def generate_tokens(
    generate: TokenGenerator, tokenizer: Tokenizer, sample: SampleConfig, rows: int
) -> list[list[int]]:
    """The tokens of whole texts, without those of the prompt."""
    drawn, ended = [], np.zeros(rows, bool)
    for column in generate(encode_prompt(tokenizer, sample.prompt), sample, rows):
        drawn.append(column)
        ended |= column == tokenizer.end_of_text
        if ended.all():
            break
    return [list(until_end_of_text(tokenizer, row.tolist())) for row in np.stack(drawn).T]


def generate_many_texts(
    generate: TokenGenerator, tokenizer: Tokenizer, sample: SampleConfig, count: int
) -> Iterator[str]:
    """As `sample_texts`, for any number of texts, a batch at a time: text r is drawn with seed + r mod 2^32."""
    for ids in generate_many_tokens(generate, tokenizer, sample, count):
        yield sample.prompt + "".join(stream_text(tokenizer, ids))


def generate_many_tokens(
    generate: TokenGenerator, tokenizer: Tokenizer, sample: SampleConfig, count: int
) -> Iterator[list[int]]:
    """As `sample_tokens`, for any number of texts."""
    for first in range(0, count, TEXTS_AT_A_TIME):
        batch = replace(sample, seed=(sample.seed + first) % 2**32)
        yield from generate_tokens(generate, tokenizer, batch, min(TEXTS_AT_A_TIME, count - first))
