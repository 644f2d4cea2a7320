"""Reading a sentence: its words, misspelt ones included, with all their readings."""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from valyrian_jax.language.checker.parse_tree import Sentence
from valyrian_jax.language.checker.text import tokenize
from valyrian_jax.language.grammar import load_grammar
from valyrian_jax.language.set_phrases import set_phrase_words
from valyrian_jax.language.template import PUNCTUATION
from valyrian_jax.language.words.analysis import Reading, analyze
from valyrian_jax.language.words.spelling import fold, readings_as_meant, suggest
from valyrian_jax.language.words.vowels import SHORT_VOWELS


class Word(NamedTuple):
    """A word or mark of a sentence.

    Attributes:
        text: As it was written, in NFC.
        literal: Its form in templates and set phrases; `text` if they do not contain it.
        readings: Its readings; those of the intended words if it is misspelt.
    """

    text: str
    literal: str
    readings: tuple[Reading, ...] = ()

    @property
    def is_mark(self) -> bool:
        """Whether it is a punctuation mark."""
        return self.text in PUNCTUATION

    @property
    def is_misspelt(self) -> bool:
        """Whether its readings have other spellings than the one that was written."""
        texts = {reading.text.lower() for reading in self.readings}
        return bool(texts) and self.text.lower() not in texts

    @property
    def is_known(self) -> bool:
        """Whether the word is known."""
        return bool(self.readings) or self.literal in fixed_words()


def read_words(text: str) -> list[Word]:
    """Read every word and mark of a sentence."""
    words = [read_word(token) for token in tokenize(text)]
    if words and not words[0].is_mark and words[0].literal == words[0].text:
        first = words[0]
        # The first word loses its capital unless it is a name.
        is_name = not first.readings or first.readings[0].text[:1].isupper()
        literal = first.text if is_name else first.text[:1].lower() + first.text[1:]
        words[0] = first._replace(literal=literal)
    return words


def make_sentence(words: Sequence[Word]) -> Sentence:
    """Return a sentence to parse."""
    readings = [drop_guesses(word.readings) for word in words]
    return Sentence(load_grammar(), [word.literal for word in words], readings)


def drop_guesses(readings: Sequence[Reading]) -> Sequence[Reading]:
    """Drop the rare readings of a form that has others; they would excuse many mistakes.

    A plural form is not read as a paucal that only analogy gives, nor a name as a plural, nor a
    demonstrative without a noun as an oblique case, nor an adposition as a noun with "and".
    """
    if not any(reading.attested for reading in readings):
        return readings
    is_adposition = any(reading.lexeme.pos == "adp" for reading in readings)
    return [
        reading
        for reading in readings
        if not (reading.coordinated and is_adposition)
        and (reading.attested or not _is_rare(reading))
    ]


def _is_rare(reading: Reading) -> bool:
    pos, number = reading.lexeme.pos, reading.number
    is_oblique = reading.case not in ("nom", "acc")
    paradigm = reading.lexeme.paradigm
    is_alone = paradigm.startswith("pronoun-") and paradigm != "pronoun-os"  # to whom
    return (
        number in ("paucal", "collective")
        or (pos == "name" and number == "pl")
        or (pos == "pron" and is_alone and is_oblique)
    )


def respell_words(words: Sequence[Word]) -> Sequence[Word]:
    """Add readings that differ only in macrons, if the whole sentence is written without them."""
    if any(letter in SHORT_VOWELS for word in words for letter in word.text.lower()):
        return words
    return [word if word.is_mark or word.is_misspelt else _respell(word) for word in words]


def _respell(word: Word) -> Word:
    spellings = [text for text in suggest(word.text) if fold(text) == fold(word.text)]
    readings = dict.fromkeys(word.readings)
    readings |= dict.fromkeys(r for spelling in spellings for r in analyze(spelling))
    return word._replace(readings=tuple(readings))


@lru_cache(1 << 14)
def read_word(token: str) -> Word:
    """Read a word in any capitals and with any mistakes in its spelling, or a mark."""
    if token in PUNCTUATION:
        return Word(token, token)
    readings = analyze(token) or tuple(r for _, meant in readings_as_meant(token) for r in meant)
    spellings = token, token[:1].lower() + token[1:], token.lower(), *(r.text for r in readings)
    literal = next((text for text in spellings if text in fixed_words()), token)
    return Word(token, literal, readings)


@cache
def fixed_words() -> frozenset[str]:
    """Return the literal words of templates and set phrases."""
    templates = load_grammar().templates
    tokens = {token.name for t in templates for token in t.tokens if not token.is_letter}
    return (set_phrase_words() | tokens) - {*PUNCTUATION}
