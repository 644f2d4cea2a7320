"""Analysis: from a word form to every lexeme and every set of features that it can have."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from valyrian_jax.language.grammar import load_grammar
from valyrian_jax.language.words.lexicon import (
    ADJECTIVAL_POS,
    NOMINAL_POS,
    Lexeme,
    load_lexicon,
    read_table,
)
from valyrian_jax.language.words.morphology import (
    NO_PERSON,
    NOMINAL_TABLES,
    POSITIONS,
    conjugate,
    decline,
    has_ending,
    inflect_adjective,
    shorten_last_vowel,
)

FEATURES = ("case", "number", "gender", "person", "tense", "mood", "position")


@dataclass(frozen=True)
class Reading:
    """A lexeme and the features of one of its forms; a feature that does not apply is empty.

    Attributes:
        text: The form.
        lexeme: The word of the lexicon.
        word_class: "noun" (also names and pronouns), "adjective" (also determiners and numerals),
            "verb" or "word".
        case, number, gender, person, tense, mood, position: The values defined in `morphology`.
        attested: False if the ending is inferred by analogy.
        coordinated: Whether the last vowel is lengthened, "and ...".
    """

    text: str
    lexeme: Lexeme
    word_class: str
    case: str = ""
    number: str = ""
    gender: str = ""
    person: str = ""
    tense: str = ""
    mood: str = ""
    position: str = ""
    attested: bool = True
    coordinated: bool = False

    @property
    def base_text(self) -> str:
        """The form before its last vowel was lengthened."""
        return shorten_last_vowel(self.text) or self.text if self.coordinated else self.text

    def differing_features(self, other: "Reading") -> list[str]:
        """Return the names of the features that differ."""
        return [name for name in FEATURES if getattr(self, name) != getattr(other, name)]


def analyze(word: str) -> tuple[Reading, ...]:
    """Return all readings of a word; only names match with a capital letter."""
    readings = build_form_index().get(word, ())
    base = build_form_index().get(shorten_last_vowel(word) or "", ())
    return readings + tuple(
        replace(reading, text=word, coordinated=True)
        for reading in base
        if reading.word_class != "word"
    )


@cache
def inflect(lexeme: Lexeme) -> tuple[Reading, ...]:
    """Return every form of a word, without coordinated ones."""
    if lexeme.pos in NOMINAL_POS:
        return tuple(_inflect_noun(lexeme))
    if lexeme.pos in ADJECTIVAL_POS:
        return tuple(_inflect_adjective(lexeme))
    if lexeme.pos == "verb":
        return tuple(_inflect_verb(lexeme))
    return (Reading(lexeme.lemma, lexeme, "word"),)


@cache
def build_form_index() -> dict[str, tuple[Reading, ...]]:
    """Map every form that is not coordinated to its readings."""
    index: dict[str, list[Reading]] = {}
    for lexeme in load_lexicon():
        for reading in inflect(lexeme):
            index.setdefault(reading.text, []).append(reading)
    return {text: tuple(readings) for text, readings in index.items()}


def _inflect_noun(lexeme: Lexeme) -> Iterator[Reading]:
    person = _pronoun_persons().get(lexeme.lemma, "3")[0]
    for (case, number), form in decline(lexeme).items():
        features = case, number, lexeme.gender, person
        yield Reading(form.text, lexeme, "noun", *features, attested=form.attested)


@cache
def _pronoun_persons() -> dict[str, str]:
    """Map every personal pronoun to its person, such as 1s."""
    rows = read_table("pronouns.csv", NOMINAL_TABLES["pronouns.csv"])
    return {row["class"]: row["person"] for row in rows}


def _inflect_adjective(lexeme: Lexeme) -> Iterator[Reading]:
    for position in POSITIONS:
        for (gender, number, case), form in inflect_adjective(lexeme, position).items():
            yield Reading(
                form.text,
                lexeme,
                "adjective",
                case,
                number,
                gender,
                position=position,
                attested=form.attested,
            )


def _inflect_verb(lexeme: Lexeme) -> Iterator[Reading]:
    for features, form in conjugate(lexeme).items():
        yield _verb_reading(lexeme, form.text, *features, attested=form.attested)
    for row in load_grammar().variants:
        if lexeme.paradigm == row["class"] and has_ending(lexeme.stem, row["after"]):
            text = lexeme.stem + row["ending"]
            yield _verb_reading(lexeme, text, row["tense"], row["mood"], row["person"])


def _verb_reading(
    lexeme: Lexeme, text: str, tense: str, mood: str, person: str, attested: bool = True
) -> Reading:
    reading = Reading(text, lexeme, "verb", tense=tense, mood=mood, attested=attested)
    if person == NO_PERSON:
        return reading
    return replace(reading, person=person[0], number={"s": "sg", "p": "pl"}[person[1]])
