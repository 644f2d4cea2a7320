"""Analysis: from a word form to every lexeme and every set of features that it can have."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from operator import itemgetter

from valyrian_jax.language.grammar import load_grammar
from valyrian_jax.language.words.categories import NO_PERSON, POSITIONS
from valyrian_jax.language.words.ending_tables import NOMINAL_TABLES, has_ending
from valyrian_jax.language.words.lexicon import (
    ADJECTIVAL_POS,
    NOMINAL_POS,
    Lexeme,
    load_lexicon,
    read_table,
)
from valyrian_jax.language.words.morphology import list_beginnings, list_forms
from valyrian_jax.language.words.vowels import shorten_last_vowel

MAX_WORD = 60  # letters; no form is longer
_NUMBERS = {"s": "sg", "p": "pl"}
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
    """Return all readings of a word; its capitals may mark a name, a first word or emphasis."""
    if len(word) > MAX_WORD:
        return ()
    return _analyze(word)


@lru_cache(1 << 15)
def _analyze(word: str) -> tuple[Reading, ...]:
    readings, uncapitalized = _find_readings(word), word[:1].lower() + word[1:]
    if uncapitalized != word:
        readings += _find_readings(uncapitalized)
    return readings or _find_readings(word.lower())


def _find_readings(word: str) -> tuple[Reading, ...]:
    base = shorten_last_vowel(word)
    return _find_forms(word) + tuple(
        replace(reading, text=word, coordinated=True)
        for reading in (_find_forms(base) if base else ())
        if reading.word_class != "word"
    )


def _find_forms(text: str) -> tuple[Reading, ...]:
    candidates = find_candidates([text])
    return tuple(r for lexeme in candidates for r in _group_by_text(lexeme).get(text, ()))


def find_candidates(texts: Iterable[str], fold: Callable[[str], str] = str) -> Sequence[Lexeme]:
    """Return the words of which a folded text can be a form, in the order of the lexicon.

    The first look-ups are fast because only these are inflected; the whole lexicon takes half a
    second.
    """
    index = _index_beginnings(fold)
    beginnings = {text[:end] for text in texts for end in range(len(text) + 1)}
    ranked = {item for beginning in beginnings & index.keys() for item in index[beginning]}
    return [lexeme for _, lexeme in sorted(ranked, key=itemgetter(0))]


@cache
def _index_beginnings(fold: Callable[[str], str]) -> Mapping[str, Sequence[tuple[int, Lexeme]]]:
    """Map the folded beginnings of forms to the words that have them, and their ranks."""
    index: dict[str, list[tuple[int, Lexeme]]] = {}
    for rank, lexeme in enumerate(load_lexicon()):
        texts = lexeme.lemma.split()
        if lexeme.pos in (*NOMINAL_POS, *ADJECTIVAL_POS, "verb"):
            texts = [*list_beginnings(lexeme)]
        for text in {*map(fold, texts)}:
            index.setdefault(text, []).append((rank, lexeme))
    return index


@cache
def _group_by_text(lexeme: Lexeme) -> Mapping[str, Sequence[Reading]]:
    groups: dict[str, list[Reading]] = {}
    for reading in inflect(lexeme):
        groups.setdefault(reading.text, []).append(reading)
    return groups


@cache
def inflect(lexeme: Lexeme) -> tuple[Reading, ...]:
    """Return every form of a word, without coordinated ones; a phrase yields each of its words."""
    if lexeme.pos in NOMINAL_POS:
        return tuple(_inflect_noun(lexeme))
    if lexeme.pos in ADJECTIVAL_POS:
        return tuple(_inflect_adjective(lexeme))
    if lexeme.pos == "verb":
        return tuple(_inflect_verb(lexeme))
    attested = not lexeme.is_inferred
    return tuple(Reading(t, lexeme, "word", attested=attested) for t in lexeme.lemma.split())


def _inflect_noun(lexeme: Lexeme) -> Iterator[Reading]:
    person = _pronoun_persons().get(lexeme.paradigm, "3")[0]
    for (case, number), text, attested in list_forms(lexeme):
        features = case, number, lexeme.gender, person
        yield Reading(text, lexeme, "noun", *features, attested=attested)


@cache
def _pronoun_persons() -> dict[str, str]:
    """Map every class of pronouns to its person, such as 1s."""
    rows = read_table("pronouns.csv", NOMINAL_TABLES["pronouns.csv"])
    return {row["class"]: row["person"] for row in rows}


def _inflect_adjective(lexeme: Lexeme) -> Iterator[Reading]:
    if lexeme.paradigm == "indecl":  # It agrees with everything; a predicate is nominative.
        for position, case in (*((position, "") for position in POSITIONS), ("full", "nom")):
            yield Reading(lexeme.lemma, lexeme, "adjective", case, position=position)
        return
    for (position, gender, number, case), text, attested in list_forms(lexeme):
        yield Reading(
            text,
            lexeme,
            "adjective",
            case,
            number,
            gender,
            position=position,
            attested=attested,
        )


def _inflect_verb(lexeme: Lexeme) -> Iterator[Reading]:
    for (tense, mood, person), text, attested in list_forms(lexeme):
        yield _verb_reading(lexeme, text, tense, mood, person, attested)
    for row in load_grammar().variants:
        if lexeme.paradigm == row["class"] and has_ending(lexeme.stem, row["after"]):
            text = lexeme.stem + row["ending"]
            yield _verb_reading(lexeme, text, row["tense"], row["mood"], row["person"])


def _verb_reading(
    lexeme: Lexeme, text: str, tense: str, mood: str, person: str, attested: bool = True
) -> Reading:
    number = "" if person == NO_PERSON else _NUMBERS[person[1]]
    person = person[0] if number else ""
    return Reading(
        text,
        lexeme,
        "verb",
        number=number,
        person=person,
        tense=tense,
        mood=mood,
        attested=attested,
    )
