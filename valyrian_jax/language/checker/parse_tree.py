"""A sentence to parse, and the parts of a parse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from valyrian_jax.language.grammar import Grammar, Template, Token
from valyrian_jax.language.words.analysis import Reading


class Agreement(NamedTuple):
    """The features that words agreeing with a participant have; "" is unknown."""

    gender: str = ""
    number: str = ""  # sg or pl
    person: str = ""  # 1, 2 or 3
    case: str = ""


Agreements = Mapping[str, Agreement]  # letter -> agreement


class Leaf(NamedTuple):
    """A word in a parse, and the token of a template that it matches."""

    word_index: int
    reading: Reading | None  # None for punctuation and for literal words of the template
    token: Token
    template: Template


class Parse(NamedTuple):
    """A match of the last tokens of a template with the words from `start` on."""

    start: int
    agreements: Agreements
    leaves: tuple[Leaf, ...]
    tense: str = ""


class Phrase(NamedTuple):
    """A match of a noun phrase; `number` is that of the noun, not of agreeing words."""

    start: int
    case: str
    agreement: Agreement
    pos: str
    number: str
    coordinated: bool
    leaves: tuple[Leaf, ...]


@dataclass
class Sentence:
    """Words with their readings.

    Attributes:
        grammar: Grammar to parse it with.
        words: Words and punctuation marks; the first without its capital unless it is a name.
        readings: Readings of each word; none for a punctuation mark.
        check_tense: Whether adverbs of time must go with the tense of the verb.
        phrases: Noun phrases found so far, by the index after their last word.
    """

    grammar: Grammar
    words: Sequence[str]
    readings: Sequence[Sequence[Reading]]
    check_tense: bool = True
    phrases: dict[int, list[Phrase]] = field(default_factory=dict)
