"""Paragraphs: short texts of new High Valyrian sentences, with their probabilities."""

import re
from collections.abc import Iterator
from typing import NamedTuple
from unicodedata import normalize

from valyrian_jax.errors import UserError
from valyrian_jax.language.generator.realize import realize
from valyrian_jax.language.generator.sentence_state import Discourse, SentenceState
from valyrian_jax.language.generator.weighted_choice import (
    DeadEndError,
    WeightedChoice,
    seeded_choice,
)
from valyrian_jax.language.grammar import PUNCTUATION, Grammar, load_grammar

ATTEMPTS = 5_000  # If none of so many sentences is new, the grammar counts as exhausted.
_TOKEN = re.compile(r"\w+|[^\w\s]")


class Paragraph(NamedTuple):
    """A text of a few sentences.

    Attributes:
        sentences: Sentences with a capital and a final mark, in Unicode NFC.
        bits: -log2 of the probability of the derivation.
        attempts: Number of sentences drawn, including dead ends and repetitions.
    """

    sentences: tuple[str, ...]
    bits: float
    attempts: int

    @property
    def text(self) -> str:
        """The sentences, separated by spaces."""
        return " ".join(self.sentences)


def generate_paragraphs(sentences: int, seed: int) -> Iterator[Paragraph]:
    """Generate paragraphs of High Valyrian in which no sentence occurs twice.

    Args:
        sentences: Total number of sentences, at least 1.
        seed: Seed from 0; it determines the paragraphs on every platform and Python version.

    Yields:
        Paragraphs.

    Raises:
        UserError: `sentences` is less than 1 or more than the grammar can generate.
    """
    if sentences < 1:
        raise UserError(
            f"the number of sentences must be at least 1, found {sentences}; ask for more"
        )
    grammar, choice = load_grammar(), seeded_choice(seed)
    seen: set[str] = set()
    while len(seen) < sentences:
        choice.bits = 0.0
        length, discourse = int(choice.pick_key(grammar.weights["sentences"])), Discourse()
        paragraph, total_attempts = [], 0
        for _ in range(min(length, sentences - len(seen))):
            text, discourse, attempts = _generate_new_sentence(grammar, choice, discourse, seen)
            seen.add(text)
            paragraph.append(text)
            total_attempts += attempts
        yield Paragraph(tuple(paragraph), choice.bits, total_attempts)


def generate_sentence(
    choice: WeightedChoice, grammar: Grammar, discourse: Discourse
) -> tuple[str, Discourse]:
    """Generate one sentence; return it and the discourse after it.

    Raises:
        DeadEndError: No word fits the earlier choices; call again.
    """
    template = choice.pick(grammar.sentences, [template.weight for template in grammar.sentences])
    words, discourse = realize(SentenceState(grammar, template, choice), discourse)
    return join_words(words), discourse


def join_words(words: list[str]) -> str:
    """Join words and punctuation marks to a sentence in Unicode NFC, with a capital letter."""
    text = " ".join(words)
    for mark in PUNCTUATION:
        text = text.replace(f" {mark}", mark)
    return normalize("NFC", text[:1].upper() + text[1:])


def split_words(sentence: str) -> list[str]:
    """Split a sentence into its words and punctuation marks."""
    return _TOKEN.findall(sentence)


def _generate_new_sentence(
    grammar: Grammar, choice: WeightedChoice, discourse: Discourse, seen: set[str]
) -> tuple[str, Discourse, int]:
    bits = choice.bits
    for attempt in range(1, ATTEMPTS + 1):
        choice.bits = bits
        try:
            text, next_discourse = generate_sentence(choice, grammar, discourse)
        except DeadEndError:
            continue
        if text not in seen:
            return text, next_discourse, attempt
    raise UserError(
        f"no new sentence in {ATTEMPTS:,} attempts after {len(seen):,} sentences; "
        "ask for fewer sentences, or add words or templates"
    )
