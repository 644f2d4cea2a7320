"""Reading a sentence: its words with every reading, also those that are misspelt."""

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from valyrian_jax.language.checker.parse_tree import Sentence
from valyrian_jax.language.checker.text import tokenize
from valyrian_jax.language.grammar import PUNCTUATION, load_grammar
from valyrian_jax.language.set_phrases import set_phrase_words
from valyrian_jax.language.words.analysis import Reading, analyze
from valyrian_jax.language.words.morphology import LONG_VOWELS, SHORT_VOWELS
from valyrian_jax.language.words.spelling import correct_macrons

_DOUBLE_VOWEL = re.compile("|".join(2 * vowel for vowel in LONG_VOWELS))
_WITHOUT_MACRONS = str.maketrans(SHORT_VOWELS)


class Word(NamedTuple):
    """A word or mark of a sentence.

    Attributes:
        text: As it was written, in NFC.
        literal: As templates and set phrases have it; `text` if they do not have it.
        readings: Its readings, also as it may be meant.
    """

    text: str
    literal: str
    readings: tuple[Reading, ...] = ()

    @property
    def is_mark(self) -> bool:
        """Whether it is no word."""
        return self.text in PUNCTUATION

    @property
    def is_known(self) -> bool:
        """Whether it is in the language."""
        return bool(self.readings) or self.literal in fixed_words()


def read_words(text: str) -> list[Word]:
    """Read every word and mark of a sentence."""
    words = [read_word(token) for token in tokenize(text)]
    if words and not words[0].is_mark and words[0].literal == words[0].text:
        first = words[0]
        # The first word loses its capital unless it is a name.
        literal = first.readings[0].text if first.readings else first.text
        words[0] = first._replace(literal=literal)
    return words


def make_sentence(words: Sequence[Word]) -> Sentence:
    """Return a sentence to parse."""
    readings = [word.readings for word in words]
    return Sentence(load_grammar(), [word.literal for word in words], readings)


@lru_cache(1 << 14)
def read_word(token: str) -> Word:
    """Read a word in any capitals, or a mark."""
    if token in PUNCTUATION:
        return Word(token, token)
    readings = analyze(token) or analyze(token.capitalize())
    spellings = token, token[:1].lower() + token[1:], token.lower()
    literal = next((text for text in spellings if text in fixed_words()), "")
    if not literal and not readings:
        literal = _fixed_words_by_letters().get(token.lower().translate(_WITHOUT_MACRONS), "")
        readings = () if literal else _read_as_meant(token)
    return Word(token, literal or token, readings)


@cache
def fixed_words() -> frozenset[str]:
    """Return the words that the grammar or a set phrase has in one form."""
    templates = load_grammar().templates
    tokens = {token.name for t in templates for token in t.tokens if not token.is_letter}
    return (set_phrase_words() | tokens) - {*PUNCTUATION}


@cache
def _fixed_words_by_letters() -> dict[str, str]:
    return {word.translate(_WITHOUT_MACRONS): word for word in fixed_words()}


def _read_as_meant(token: str) -> tuple[Reading, ...]:
    """Return the readings of an unknown word that is spelt without macrons, or by ear."""
    word = _DOUBLE_VOWEL.sub(lambda match: LONG_VOWELS[match[0][0]], token.lower())
    for text in (word.replace("c", "k"), word.replace("c", "k").capitalize()):
        spellings = (text,) if analyze(text) else correct_macrons(text)
        if spellings:
            return tuple(reading for spelling in spellings for reading in analyze(spelling))
    return ()
