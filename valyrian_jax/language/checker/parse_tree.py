"""The data of the parser: a sentence to parse, and the parts of a parse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple

from valyrian_jax.language.checker.complements import complements_of
from valyrian_jax.language.grammar import Grammar
from valyrian_jax.language.template import Template, Token
from valyrian_jax.language.words.analysis import Reading, inflect
from valyrian_jax.language.words.categories import CASES
from valyrian_jax.language.words.lexicon import Lexeme


@cache
def list_shared_cases(lexeme: Lexeme) -> Sequence[str]:
    """Return the cases in which a noun may have the form of its nominative.

    Names of unknown paradigm have it in all cases; other names have it as a vocative, as in the
    series. Other words of unknown paradigm may have it as an accusative.
    """
    if any(reading.text != lexeme.lemma for reading in inflect(lexeme)):
        return ("voc",) if lexeme.pos == "name" else ()
    return {"name": CASES, "noun": ("acc",), "pron": ("acc",)}.get(lexeme.pos, ())


class Agreement(NamedTuple):
    """The features of the words that agree with a participant; "" is unknown."""

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
    """A match of the last tokens of a template with the words from `start` on.

    Attributes:
        start: Index of the first word.
        agreements: What is known of the participants.
        leaves: The words.
        tense: Tense of the finite verb, if it is among them.
        noun: The noun of a noun phrase, or the last one of coordinated noun phrases.
    """

    start: int
    agreements: Agreements
    leaves: tuple[Leaf, ...]
    tense: str = ""
    noun: "Phrase | Reading | None" = None


class Phrase(NamedTuple):
    """A match of a noun phrase.

    `number` and `lexeme` are those of the noun; agreeing words may have another number.
    """

    start: int
    case: str
    agreement: Agreement
    number: str
    coordinated: bool
    lexeme: Lexeme
    leaves: tuple[Leaf, ...]


class Part(NamedTuple):
    """A match of a part of a sentence; `agreement` is that of the letter that it shares."""

    start: int
    agreement: Agreement
    leaves: tuple[Leaf, ...]


@dataclass
class Sentence:
    """Words with their readings.

    Attributes:
        grammar: Grammar to parse it with.
        words: Words and punctuation marks; the first without its capital unless it is a name.
        readings: Readings of each word; none for a punctuation mark.
        check_tense: Whether adverbs of time must go with the tense of the verb.
        check_clauses: Whether the rules of `clause_rules` hold.
        phrases: Noun phrases and parts found so far, by the index after their last word and then
            by the name of the part.
        templates: Templates that its words do not rule out, by the name of what they match.
        features_by_word: For each word: the word itself; word classes, moods, cases, parts of
            speech and lemmas of its readings; mood and complement of verbs ("indicative object");
            and "coordinated" and "capital" (a capital letter), where they apply.
        features_before: For each index, the features of all words before it.
    """

    grammar: Grammar
    words: Sequence[str]
    readings: Sequence[Sequence[Reading]]
    check_tense: bool = True
    check_clauses: bool = True
    phrases: dict[int, dict[str, Sequence[Any]]] = field(default_factory=dict)

    templates: dict[str, Sequence[Template]] = field(init=False)
    features_by_word: Sequence[frozenset[str]] = field(init=False)
    features_before: Sequence[frozenset[str]] = field(init=False)
    _by_class: list[dict[str, list[Reading]]] = field(init=False)

    def __post_init__(self) -> None:
        """Collect what templates can require, so that most of them need no search."""
        self.templates = {}
        self._by_class = [{} for _ in self.words]
        for by_class, readings in zip(self._by_class, self.readings, strict=True):
            for r in readings:
                by_class.setdefault(r.word_class, []).append(r)
        self.features_by_word = [
            _collect_features(word, readings)
            for word, readings in zip(self.words, self.readings, strict=True)
        ]
        empty: frozenset[str] = frozenset()
        self.features_before = [*accumulate(self.features_by_word, frozenset.union, initial=empty)]

    def readings_of(self, index: int, word_class: str) -> Sequence[Reading]:
        """Return the readings of a word that have this class, or all of them if it is empty."""
        if not word_class:
            return self.readings[index]
        return self._by_class[index].get(word_class, ())


def _collect_features(word: str, readings: Sequence[Reading]) -> frozenset[str]:
    features = {word} | ({"capital"} if word[:1].isupper() else set())
    for r in readings:
        features |= {r.word_class, r.mood, r.case, r.lexeme.pos, r.lexeme.lemma}
        if r.case == "nom":
            features |= {*list_shared_cases(r.lexeme)}
        if r.word_class == "verb":
            features |= {f"{r.mood} {complement}" for complement in complements_of(r.lexeme)}
        if r.coordinated:
            features.add("coordinated")
    return frozenset(features)
