"""Print samples of a model: as text, as tokens or as JSON."""

import itertools
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from valyrian_jax.bundle.grammatical_text import (
    DrawnSentence,
    SentenceCounts,
    check_speaks_valyrian,
    count_sentences,
    describe_counts,
    draw_sentences,
)
from valyrian_jax.bundle.language_model import LanguageModel
from valyrian_jax.bundle.memory import count_texts
from valyrian_jax.bundle.text_generation import (
    decode_tokens,
    encode_prompt,
    generate_many_tokens,
    resolve_sample_config,
    stream_text,
)
from valyrian_jax.config import SampleConfig
from valyrian_jax.errors import quote_argument
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.tokenizer.display import (
    print_text,
    print_tokens,
    print_words,
    to_json,
    token_text,
)

T = TypeVar("T")

_MAX_EMPTY = 4  # tokens, the end of the document included, of a text that may count as empty
_ENDED_AT_ONCE = "the model ended the document here; try --min-new-tokens 20 or another --seed"


def print_samples(
    model: LanguageModel,
    prompt: str,
    num_samples: int,
    show_tokens: bool,
    as_json: bool,
    grammatical: bool,
    **settings: Any,
) -> None:
    """Continue a prompt and print it: one sample token by token, several samples in batches.

    Grammatical samples are generated sentence by sentence, one sample after another. Sample i uses
    the seed plus i. A setting that is None keeps the value of the model's run.
    """
    overrides = {name: value for name, value in settings.items() if value is not None}
    sample = resolve_sample_config(model.bundle, {**overrides, "prompt": prompt})
    if grammatical:
        check_speaks_valyrian(model.bundle)
    print_sample = _print_tokens if show_tokens else _print_text
    if note := note_on_accents(model.tokenizer, prompt):
        print_text(note, to_stderr=True)
    if num_samples == 1 and not as_json:
        drawn: list[int] = []
        sentences: list[DrawnSentence] = []
        ids = _draw_grammatical(model, sample, sentences) if grammatical else _draw(model, sample)
        print_sample(model.tokenizer, prompt, _record(ids, drawn), sample.stop)
        # The sentences of a grammatical text come without the end of the document.
        has_ended = grammatical and not sample.stop and len(drawn) < sample.max_new_tokens
        has_ended |= model.tokenizer.end_of_text in drawn
        if has_ended and _is_empty(model.tokenizer, drawn):
            print_text(_ENDED_AT_ONCE, to_stderr=True)
        counts = count_sentences(sentences)
    else:
        counts = _print_many(model, sample, num_samples, show_tokens, as_json, grammatical)
    if grammatical and not as_json:
        print_text(describe_counts(counts), to_stderr=True)


def _print_many(
    model: LanguageModel,
    sample: SampleConfig,
    num_samples: int,
    show_tokens: bool,
    as_json: bool,
    grammatical: bool,
) -> SentenceCounts:
    """Print several samples, and return the counts of the sentences of grammatical ones."""
    tokenizer, print_sample = model.tokenizer, _print_tokens if show_tokens else _print_text
    total, are_empty = SentenceCounts(), not sample.stop
    draw = _draw_many_grammatical if grammatical else _draw_many
    for row, (ids, counts) in enumerate(draw(model, sample, num_samples)):
        seed, are_empty = (sample.seed + row) % 2**32, are_empty and _is_empty(tokenizer, ids)
        total += counts
        if as_json:
            text = sample.prompt + "".join(stream_text(tokenizer, ids, sample.stop))
            record: dict[str, Any] = {"seed": seed, "text": text}
            if grammatical:
                record |= vars(counts)
            if show_tokens:
                record["tokens"] = [
                    *map(token_text, _decode_tokens(tokenizer, sample.prompt, ids, sample.stop))
                ]
            print_text(to_json(record))
        else:
            print_sample(tokenizer, sample.prompt, ids, sample.stop, f"[seed {seed}] ")
    if are_empty and sample.max_new_tokens > _MAX_EMPTY:
        print_text(_ENDED_AT_ONCE, to_stderr=True)
    return total


def note_on_accents(tokenizer: Tokenizer, prompt: str) -> str:
    """Return a note if the accents of a prompt are separate characters; otherwise "".

    The tokenizer has learned composed characters (NFC), so it splits others into more tokens.
    """
    composed = unicodedata.normalize("NFC", prompt)
    if len(tokenizer.encode(composed)) >= len(tokenizer.encode(prompt)):
        return ""
    return (
        "note: the accents of the prompt are separate characters, but the model was trained on "
        f"composed ones; pass --prompt {quote_argument(composed)}"
    )


def _draw(model: LanguageModel, sample: SampleConfig) -> Iterator[int]:
    """Yield the tokens of one text."""
    prompts = [encode_prompt(model.tokenizer, sample.prompt)]
    for column in model.generate_tokens(prompts, [sample.seed], sample):
        yield int(column[0])


def _draw_grammatical(
    model: LanguageModel, sample: SampleConfig, sentences: list[DrawnSentence]
) -> Iterator[int]:
    """Yield the tokens of one grammatical text, and keep its sentences in a list."""
    drawn = draw_sentences(model.generate_tokens, model.tokenizer, sample)
    for sentence in _record(drawn, sentences):
        yield from sentence.ids


def _draw_many(
    model: LanguageModel, sample: SampleConfig, count: int
) -> Iterator[tuple[list[int], SentenceCounts]]:
    """Yield the tokens of several texts, generated in batches; nothing is counted."""
    batch_size = count_texts(model.config)
    for ids in generate_many_tokens(
        model.generate_tokens, model.tokenizer, sample, count, batch_size
    ):
        yield ids, SentenceCounts()


def _draw_many_grammatical(
    model: LanguageModel, sample: SampleConfig, count: int
) -> Iterator[tuple[list[int], SentenceCounts]]:
    """Yield the tokens of several grammatical texts, and the counts of each."""
    for row in range(count):
        sentences: list[DrawnSentence] = []
        row_sample = replace(sample, seed=(sample.seed + row) % 2**32)
        yield [*_draw_grammatical(model, row_sample, sentences)], count_sentences(sentences)


def _record(items: Iterable[T], recorded: list[T]) -> Iterator[T]:
    """Yield items, and keep them in a list."""
    for item in items:
        recorded.append(item)
        yield item


def _is_empty(tokenizer: Tokenizer, ids: Sequence[int]) -> bool:
    """Return whether a text is over at once, without a letter or a digit in its new tokens."""
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
