"""Print samples of any token generator: as text, as tokens or as JSON."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.memory import count_texts
from valyrian_jax.bundle.text_generation import (
    TokenGenerator,
    decode_tokens,
    encode_prompt,
    generate_many_tokens,
    resolve_sample_config,
    stream_text,
)
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.tokenizer.display import print_text, print_tokens, to_json, token_text


def print_samples(
    bundle: Bundle,
    generate: TokenGenerator,
    prompt: str,
    num_samples: int,
    show_tokens: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Continue a prompt and print it: one sample token by token, several samples in batches.

    Sample i uses the seed plus i. A setting that is None keeps the value of the bundle's run.
    """
    overrides = {name: value for name, value in settings.items() if value is not None}
    sample = resolve_sample_config(bundle, {**overrides, "prompt": prompt})
    tokenizer, print_sample = bundle.tokenizer, _print_tokens if show_tokens else _print_text
    if num_samples == 1 and not as_json:
        columns = generate([encode_prompt(tokenizer, prompt)], [sample.seed], sample)
        print_sample(tokenizer, prompt, (int(column[0]) for column in columns), sample.stop)
        return
    batch_size = count_texts(bundle.model)
    texts = generate_many_tokens(generate, tokenizer, sample, num_samples, batch_size)
    for row, ids in enumerate(texts):
        seed = (sample.seed + row) % 2**32
        if as_json:
            text = prompt + "".join(stream_text(tokenizer, ids, sample.stop))
            record: dict[str, Any] = {"seed": seed, "text": text}
            if show_tokens:
                record["tokens"] = [
                    *map(token_text, _decode_tokens(tokenizer, prompt, ids, sample.stop))
                ]
            print_text(to_json(record))
        else:
            print_text(f"[seed {seed}] ", end="")
            print_sample(tokenizer, prompt, ids, sample.stop)


def _print_text(tokenizer: Tokenizer, prompt: str, ids: Iterable[int], stop: Sequence[str]) -> None:
    for text in itertools.chain([prompt], stream_text(tokenizer, ids, stop)):
        print_text(text, end="")
    print_text("")


def _print_tokens(
    tokenizer: Tokenizer, prompt: str, ids: Iterable[int], stop: Sequence[str]
) -> None:
    print_tokens(_decode_tokens(tokenizer, prompt, ids, stop))


def _decode_tokens(
    tokenizer: Tokenizer, prompt: str, ids: Iterable[int], stop: Sequence[str]
) -> Iterator[bytes]:
    """Decode each token of a prompt and of its continuation."""
    for i in tokenizer.encode(prompt):
        yield tokenizer.decode_bytes([i])
    yield from decode_tokens(tokenizer, ids, stop)
