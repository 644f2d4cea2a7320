"""Grammatical sampling: generate a text sentence by sentence, and redraw each until it is right.

A text uses the random draws of its seed as long as its sentences are right. A wrong sentence is
dropped and drawn again from its beginning with another seed, whose draws are counted from 0. Redraw
r of a text uses the seed (seed + r * SEED_STEP) mod 2^32. So a text whose sentences are all right
at once is the same as without grammatical sampling, every text depends only on its own seed, and
texts of neighbouring seeds share no draws.
"""

import copy
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.model_card import speaks_valyrian
from valyrian_jax.bundle.text_generation import (
    StopScanner,
    TokenGenerator,
    encode_prompt,
    stream_text,
    take_until_end_of_text,
)
from valyrian_jax.config import MAX_DRAWS, SampleConfig
from valyrian_jax.errors import UserError
from valyrian_jax.language.checker.text import split_sentences
from valyrian_jax.language.checker.verdict import check_without_diagnosis
from valyrian_jax.tokenizer import Tokenizer

# 2^32 over the golden ratio: its multiples mod 2^32 stay far from each other and from 0, so that
# redraws of one text are not the first draws of another.
SEED_STEP = 0x9E3779B9


class DrawnSentence(NamedTuple):
    """A sentence that was kept in a text."""

    ids: list[int]  # its tokens, which follow those of the sentence before
    draws: int  # how many times it was drawn
    is_right: bool | None  # None: the text ends before the sentence does


@dataclass(frozen=True)
class SentenceCounts:
    """How many sentences had to be drawn again.

    Attributes:
        sentences: Number of finished sentences.
        first_right: Number of them that were right when they were first drawn.
        right: Number of them that are right now.
    """

    sentences: int = 0
    first_right: int = 0
    right: int = 0

    def __add__(self, other: "SentenceCounts") -> "SentenceCounts":
        """Return the sum of the counts of two groups of sentences."""
        return SentenceCounts(
            self.sentences + other.sentences,
            self.first_right + other.first_right,
            self.right + other.right,
        )


class GrammaticalText(NamedTuple):
    """A text that was drawn sentence by sentence.

    Attributes:
        text: The prompt and its continuation.
        counts: How many of its sentences had to be drawn again.
    """

    text: str
    counts: SentenceCounts


def check_speaks_valyrian(bundle: Bundle) -> None:
    """Check that a model writes High Valyrian, the only language that the checker can judge."""
    if not speaks_valyrian(bundle.manifest):
        raise UserError(
            "grammatical texts need a model of High Valyrian: expected one that was trained on "
            "text of the grammar, found another; leave `grammatical` out"
        )


def count_sentences(sentences: Iterable[DrawnSentence]) -> SentenceCounts:
    """Count the sentences of one or of several texts."""
    finished = [sentence for sentence in sentences if sentence.is_right is not None]
    right = [sentence for sentence in finished if sentence.is_right]
    first_right = sum(sentence.draws == 1 for sentence in right)
    return SentenceCounts(len(finished), first_right, len(right))


def describe_counts(counts: SentenceCounts) -> str:
    """Describe counts in one line for people."""
    if not counts.sentences:
        return "no sentence was finished"
    noun = "sentence was" if counts.sentences == 1 else "sentences were"
    line = f"{counts.first_right} of {counts.sentences} {noun} right when first drawn"
    if counts.right > counts.first_right:
        line += f", {counts.right} after redrawing"
    if wrong := counts.sentences - counts.right:
        line += f"; {wrong} {'was' if wrong == 1 else 'were'} not right in {MAX_DRAWS} draws"
    return line


def generate_grammatical_text(
    generate: TokenGenerator, tokenizer: Tokenizer, sample: SampleConfig
) -> GrammaticalText:
    """Return the text of `draw_sentences`, up to a stop string, and its counts."""
    sentences = [*draw_sentences(generate, tokenizer, sample)]
    ids = itertools.chain.from_iterable(sentence.ids for sentence in sentences)
    text = sample.prompt + "".join(stream_text(tokenizer, ids, sample.stop))
    return GrammaticalText(text, count_sentences(sentences))


def draw_sentences(
    generate: TokenGenerator, tokenizer: Tokenizer, sample: SampleConfig
) -> Iterator[DrawnSentence]:
    """Yield the sentences that continue the sample's prompt, each drawn again until it is right.

    A sentence that begins in the prompt is checked as a whole, and only its rest is drawn. The end
    of the document, a stop string or `max_new_tokens` ends the text. A sentence that is unfinished
    there is not checked.
    """
    prompt, before = encode_prompt(tokenizer, sample.prompt), _find_last_sentence(sample.prompt)
    scanner = StopScanner(sample.stop)
    accepted: list[int] = []  # tokens of the sentences so far
    rest: list[int] = []  # tokens that were drawn after them
    seed, draws = sample.seed, 1
    ids = _draw_tokens(generate, tokenizer, prompt, sample)
    while True:
        drawn = itertools.chain(rest, ids)
        draft, has_ended = _read_sentence(tokenizer, before, drawn, copy.copy(scanner))
        is_right, size = _check_draft(tokenizer, before, draft)
        if is_right is False and draws < MAX_DRAWS:
            seed, draws, rest = (seed + SEED_STEP) % 2**32, draws + 1, []
            remaining = replace(
                sample,
                seed=seed,
                max_new_tokens=sample.max_new_tokens - len(accepted),
                min_new_tokens=max(0, sample.min_new_tokens - len(accepted)),
            )
            ids = _draw_tokens(generate, tokenizer, [*prompt, *accepted], remaining)
            continue
        size = len(draft) if has_ended else size
        if size:
            yield DrawnSentence(draft[:size], draws, is_right)
        if has_ended:
            return
        before = _find_last_sentence(before + tokenizer.decode(draft[:size]))
        scanner.add(tokenizer.decode_bytes(draft[:size]))
        accepted, rest, draws = [*accepted, *draft[:size]], draft[size:], 1


def _draw_tokens(
    generate: TokenGenerator, tokenizer: Tokenizer, context: Sequence[int], sample: SampleConfig
) -> Iterator[int]:
    """Yield the tokens after a context, up to the end of the document."""
    columns = generate([context], [sample.seed], sample)
    return take_until_end_of_text(tokenizer, (int(column[0]) for column in columns))


def _read_sentence(
    tokenizer: Tokenizer, before: str, ids: Iterator[int], scanner: StopScanner
) -> tuple[list[int], bool]:
    """Read tokens until a sentence is complete; return them, and whether the text ends with them.

    A sentence is complete when the next one begins. `before` is the last sentence of the text
    before the tokens; `scanner` has read that text.
    """
    draft, data, count = [], b"", len(_split_complete(before))
    for i in ids:
        draft.append(i)
        chunk = tokenizer.decode_bytes([i])
        data += chunk
        if len(split_sentences(before + data.decode("utf-8", "replace"))) > count + 1:
            return draft, False
        scanner.add(chunk)
        if scanner.has_stopped:
            break
    return draft, True


def _check_draft(
    tokenizer: Tokenizer, before: str, draft: Sequence[int]
) -> tuple[bool | None, int]:
    """Return whether the first sentence of a draft is right, and how many tokens belong to it.

    None: there is no complete sentence. A draft that changes the sentence before it, such as a
    second full stop, is not right. `before` is the last sentence of the text before the draft.
    """
    done = _split_complete(before)
    complete = _split_complete(before + tokenizer.decode(draft))[: len(done) + 1]
    sizes = (
        size
        for size in range(len(draft))
        if split_sentences(before + tokenizer.decode(draft[:size]))[: len(complete)] == complete
    )
    size = next(sizes, len(draft))
    if complete[: len(done)] != done:
        return False, size
    if complete == done:
        return None, size
    return check_without_diagnosis(complete[-1]).grammatical, size


def _split_complete(text: str) -> list[str]:
    """Split a text into sentences, without the last one if another word would belong to it."""
    sentences = split_sentences(text)
    is_complete = len(split_sentences(text + " A")) > len(sentences)
    return sentences if is_complete else sentences[:-1]


def _find_last_sentence(text: str) -> str:
    """Return a text from its last sentence on."""
    sentences = split_sentences(text)
    return text[text.rindex(sentences[-1]) :] if sentences else text
