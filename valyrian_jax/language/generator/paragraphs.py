"""Paragraphs: short texts of new High Valyrian sentences, with their probabilities."""

import re
from collections.abc import Collection, Iterator, Sequence
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
from valyrian_jax.language.grammar import NEXT_SPEAKER, Grammar, load_grammar
from valyrian_jax.language.template import PUNCTUATION

ATTEMPTS = 60  # draws of a sentence until it must be new; after them the text is drawn again
RESTARTS = 20  # draws of a text until it must be new; after them the grammar counts as exhausted
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
        paragraph = _generate_paragraph(grammar, choice, seen)
        missing = sentences - len(seen)
        seen.update(paragraph.sentences[:missing])
        yield paragraph._replace(sentences=paragraph.sentences[:missing])


def _generate_paragraph(grammar: Grammar, choice: WeightedChoice, seen: set[str]) -> Paragraph:
    """Generate a paragraph of sentences that are not in `seen`."""
    attempts = 0
    for _ in range(RESTARTS):
        choice.bits = 0.0
        plan = choice.pick(grammar.texts, [text.weight for text in grammar.texts])
        texts, discourse = list[str](), Discourse()
        for kind in plan.kinds:
            if kind == NEXT_SPEAKER:
                discourse = discourse.change_speaker()
                continue
            text, discourse, count = _generate_new_sentence(
                grammar, choice, discourse, kind, (seen, texts)
            )
            attempts += count
            if not text:
                break
            texts.append(text)
        else:
            return Paragraph(tuple(texts), choice.bits, attempts)
    raise UserError(
        f"no new text in {RESTARTS} attempts after {len(seen):,} sentences; "
        "ask for fewer sentences, or add words or templates"
    )


def generate_sentence(
    choice: WeightedChoice, grammar: Grammar, discourse: Discourse, kind: str = "tell"
) -> tuple[str, Discourse]:
    """Generate one sentence of a kind; return it and the discourse after it.

    Raises:
        DeadEndError: No word fits the earlier choices; call again.
    """
    templates = grammar.sentences_by_kind[kind]
    template = choice.pick(templates, [template.weight for template in templates])
    words, discourse = realize(SentenceState(grammar, template, choice), discourse)
    return join_words(words), discourse


def join_words(words: list[str]) -> str:
    """Join words and punctuation marks into a sentence in Unicode NFC, with a capital letter."""
    text = " ".join(words)
    for mark in PUNCTUATION:
        text = text.replace(f" {mark}", mark)
    return normalize("NFC", text[:1].upper() + text[1:])


def split_words(sentence: str) -> list[str]:
    """Split a sentence into its words and punctuation marks."""
    return _TOKEN.findall(sentence)


def _generate_new_sentence(
    grammar: Grammar,
    choice: WeightedChoice,
    discourse: Discourse,
    kind: str,
    old: Sequence[Collection[str]],
) -> tuple[str, Discourse, int]:
    """Return a sentence, the discourse after it and the number of attempts; "" if none is new."""
    bits = choice.bits
    for attempt in range(1, ATTEMPTS + 1):
        choice.bits = bits
        try:
            text, next_discourse = generate_sentence(choice, grammar, discourse, kind)
        except DeadEndError:
            continue
        if not any(text in texts for texts in old):
            return text, next_discourse, attempt
    return "", discourse, ATTEMPTS
