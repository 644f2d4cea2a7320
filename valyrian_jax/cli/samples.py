"""Print samples of a model: as text, as tokens or as JSON."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from valyrian_jax.bundle.language_model import LanguageModel
from valyrian_jax.bundle.memory import count_texts
from valyrian_jax.bundle.text_generation import (
    decode_tokens,
    encode_prompt,
    generate_many_tokens,
    resolve_sample_config,
    stream_text,
)
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.tokenizer.display import (
    print_text,
    print_tokens,
    print_words,
    to_json,
    token_text,
)

_MAX_EMPTY = 4  # tokens of a text that is taken for none, with the end of the document
_ENDED_AT_ONCE = "the model ended the document here; try --min-new-tokens 20 or another --seed"


def print_samples(
    model: LanguageModel,
    prompt: str,
    num_samples: int,
    show_tokens: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Continue a prompt and print it: one sample token by token, several samples in batches.

    Sample i uses the seed plus i. A setting that is None keeps the value of the model's run.
    """
    overrides = {name: value for name, value in settings.items() if value is not None}
    sample = resolve_sample_config(model.bundle, {**overrides, "prompt": prompt})
    tokenizer, print_sample = model.tokenizer, _print_tokens if show_tokens else _print_text
    if num_samples == 1 and not as_json:
        columns = model.generate_tokens([encode_prompt(tokenizer, prompt)], [sample.seed], sample)
        drawn: list[int] = []
        print_sample(tokenizer, prompt, _record(columns, drawn), sample.stop)
        if tokenizer.end_of_text in drawn and _is_empty(tokenizer, drawn):
            print_text(_ENDED_AT_ONCE, to_stderr=True)
        return
    batch_size, are_empty = count_texts(model.config), not sample.stop
    texts = generate_many_tokens(model.generate_tokens, tokenizer, sample, num_samples, batch_size)
    for row, ids in enumerate(texts):
        seed, are_empty = (sample.seed + row) % 2**32, are_empty and _is_empty(tokenizer, ids)
        if as_json:
            text = prompt + "".join(stream_text(tokenizer, ids, sample.stop))
            record: dict[str, Any] = {"seed": seed, "text": text}
            if show_tokens:
                record["tokens"] = [
                    *map(token_text, _decode_tokens(tokenizer, prompt, ids, sample.stop))
                ]
            print_text(to_json(record))
        else:
            print_sample(tokenizer, prompt, ids, sample.stop, f"[seed {seed}] ")
    if are_empty and sample.max_new_tokens > _MAX_EMPTY:
        print_text(_ENDED_AT_ONCE, to_stderr=True)


def _record(columns: Iterable[npt.NDArray[np.int32]], drawn: list[int]) -> Iterator[int]:
    """Yield the tokens of one text, and keep them in a list."""
    for column in columns:
        drawn.append(int(column[0]))
        yield drawn[-1]


def _is_empty(tokenizer: Tokenizer, ids: Sequence[int]) -> bool:
    """Return whether the new tokens of a text hold no letter or digit, such as a full stop only."""
    text = "".join(stream_text(tokenizer, ids[:_MAX_EMPTY]))
    return len(ids) <= _MAX_EMPTY and not any(map(str.isalnum, text))


def _print_text(
    tokenizer: Tokenizer, prompt: str, ids: Iterable[int], stop: Sequence[str], label: str = ""
) -> None:
    text = itertools.chain([label, prompt], stream_text(tokenizer, ids, stop))
    print_words(text, len(label))


def _print_tokens(
    tokenizer: Tokenizer, prompt: str, ids: Iterable[int], stop: Sequence[str], label: str = ""
) -> None:
    print_text(label, end="")
    print_tokens(_decode_tokens(tokenizer, prompt, ids, stop))


def _decode_tokens(
    tokenizer: Tokenizer, prompt: str, ids: Iterable[int], stop: Sequence[str]
) -> Iterator[bytes]:
    """Decode each token of a prompt and of its continuation."""
    for i in tokenizer.encode(prompt):
        yield tokenizer.decode_bytes([i])
    yield from decode_tokens(tokenizer, ids, stop)
