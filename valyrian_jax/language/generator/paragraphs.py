"""The generator: short texts of High Valyrian sentences with their probabilities, every sentence new."""

import re
from collections.abc import Iterator
from typing import NamedTuple
from unicodedata import normalize

from valyrian_jax.errors import UserError
from valyrian_jax.language.generator.realize import realize
from valyrian_jax.language.generator.sentence_state import Scene, SentenceState
from valyrian_jax.language.generator.weighted_choice import (
    DeadEndError,
    WeightedChoice,
    seeded_choice,
)
from valyrian_jax.language.grammar import PUNCTUATION, Grammar, load_grammar

_WORD = re.compile(r"\w+|[^\w\s]")
ATTEMPTS = 5_000  # sentences drawn without a new one, after which the grammar counts as used up


class Paragraph(NamedTuple):
    """A text of a few sentences.

    Attributes:
        sentences: each with its capital and its final mark, Unicode NFC.
        bits: -log2 of the probability of its derivation.
        attempts: sentences drawn for it; more than it has where one was a dead end or not new.
    """

    sentences: tuple[str, ...]
    bits: float
    attempts: int

    @property
    def text(self) -> str:
        return " ".join(self.sentences)


def generate_paragraphs(sentences: int, seed: int) -> Iterator[Paragraph]:
    """Paragraphs of High Valyrian in which no sentence stands twice.

    Args:
        sentences: how many sentences altogether, at least 1.
        seed: an integer from 0; the same seed gives the same paragraphs, whatever the platform and Python version.

    Yields:
        Paragraphs.

    Raises:
        UserError: `sentences` is less than 1, or more than the grammar can say.
    """
    if sentences < 1:
        raise UserError(
            f"the number of sentences must be at least 1, found {sentences}; ask for more"
        )
    grammar, chance = load_grammar(), seeded_choice(seed)
    seen: set[str] = set()
    while len(seen) < sentences:
        chance.bits = 0.0
        length, scene = int(chance.pick_key(grammar.weights["sentences"])), Scene()
        paragraph, attempts = [], 0
        for _ in range(min(length, sentences - len(seen))):
            text, scene, tries = _draw_new(grammar, chance, scene, seen)
            seen.add(text)
            paragraph.append(text)
            attempts += tries
        yield Paragraph(tuple(paragraph), chance.bits, attempts)


def draw(grammar: Grammar, chance: WeightedChoice, scene: Scene) -> tuple[str, Scene]:
    """One sentence, and the scene after it.

    Raises:
        DeadEndError: nothing could be said from here: draw again.
    """
    pattern = chance.pick(grammar.sentences, [pattern.weight for pattern in grammar.sentences])
    words, scene = realize(SentenceState(grammar, pattern, chance, set()), scene)
    return to_text(words), scene


def to_text(words: list[str]) -> str:
    """Words and punctuation marks as a sentence: spaces, a capital first letter, Unicode NFC."""
    text = " ".join(words)
    for mark in PUNCTUATION:
        text = text.replace(f" {mark}", mark)
    return normalize("NFC", text[:1].upper() + text[1:])


def to_words(sentence: str) -> list[str]:
    """The words and marks of a sentence."""
    return _WORD.findall(sentence)


def _draw_new(
    grammar: Grammar, chance: WeightedChoice, scene: Scene, seen: set[str]
) -> tuple[str, Scene, int]:
    before = chance.bits
    for attempt in range(1, ATTEMPTS + 1):
        chance.bits = before
        try:
            text, after = draw(grammar, chance, scene)
        except DeadEndError:
            continue
        if text not in seen:
            return text, after, attempt
    raise UserError(
        f"no new sentence found after {len(seen)}; ask for fewer, or add words or templates"
    )
