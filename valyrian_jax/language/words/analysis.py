"""From a word back to its readings: every lemma, case, number or person that a form can be, sure or not."""

import string
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache, lru_cache
from unicodedata import normalize

from valyrian_jax.language.grammar import load_grammar
from valyrian_jax.language.words.lexicon import Lexeme, load_lexicon, read_table
from valyrian_jax.language.words.morphology import (
    LONG,
    NO_PERSON,
    NOMINAL,
    POSITIONS,
    VOWELS,
    conjugate,
    decline,
    ends_in,
    inflect_adjective,
)

ALPHABET = "".join(sorted((set(string.ascii_lowercase) - set("cfwx")) | set("ñāēīōūȳ")))
SHORT = {long: short for short, long in LONG.items()}
_FOLD = str.maketrans({**SHORT, **{long.upper(): short.upper() for long, short in SHORT.items()}})


@dataclass(frozen=True)
class Reading:
    """One thing that a form can be. Fields that its part of speech does not have are empty.

    Attributes:
        text: the form.
        lexeme: the word of the lexicon.
        kind: "noun" (names and pronouns too), "adjective" (determiners and numerals too), "verb" or "word".
        case, number, gender, person, tense, mood, position: as in `morphology`.
        sure: False where the ending is inferred by analogy.
        joined: the last vowel is long, "and".
    """

    text: str
    lexeme: Lexeme
    kind: str
    case: str = ""
    number: str = ""
    gender: str = ""
    person: str = ""
    tense: str = ""
    mood: str = ""
    position: str = ""
    sure: bool = True
    joined: bool = False

    @property
    def plain(self) -> str:
        """The form without the long vowel that says "and"."""
        return shorten_last_vowel(self.text) if self.joined else self.text


def readings(word: str) -> tuple[Reading, ...]:
    """All readings of a word as it stands, without regard to a capital letter."""
    found = _index().get(word, ())
    plain = shorten_last_vowel(word)  # perhaps it was lengthened: "and"
    joined = (
        (reading for reading in _index().get(plain, ()) if reading.kind != "word") if plain else ()
    )
    found += tuple(replace(reading, text=word, joined=True) for reading in joined)
    return found


def shorten_last_vowel(word: str) -> str:
    """The word that `lengthen_last_vowel` made this one of; "" if it made none."""
    for i in range(len(word) - 1, -1, -1):
        if word[i] in VOWELS:
            return word[:i] + SHORT[word[i]] + word[i + 1 :] if word[i] in SHORT else ""
    return ""


@cache
def forms(lexeme: Lexeme) -> tuple[Reading, ...]:
    """Every form of a word, read once."""
    return tuple(_forms(lexeme))


def nearest(word: str) -> tuple[str, ...]:
    """Known words that are spelt much like this one, at most three: first those that differ in macrons alone."""
    if alike := _folded().get(word.translate(_FOLD), ()):
        return alike[:3]
    return _nearest(word) if len(word) <= 30 else ()


@lru_cache(
    1 << 12
)  # a text that is not High Valyrian asks for the same words again and again, a millisecond each
def _nearest(word: str) -> tuple[str, ...]:
    if edited := sorted(
        {form for edit in _edits(word.translate(_FOLD)) for form in _folded().get(edit, ())}
    ):
        return tuple(edited[:3])
    return tuple(get_close_matches(word, [lexeme.lemma for lexeme in load_lexicon()], 3))


def lacks_macrons(word: str) -> tuple[str, ...]:
    """The known words that differ from this one in macrons alone."""
    return () if readings(word) else _folded().get(word.translate(_FOLD), ())


@cache
def _index() -> dict[str, tuple[Reading, ...]]:
    index: dict[str, list[Reading]] = {}
    for lexeme in load_lexicon():
        for reading in forms(lexeme):
            index.setdefault(reading.text, []).append(reading)
    return {text: tuple(found) for text, found in index.items()}


@cache
def _folded() -> dict[str, tuple[str, ...]]:
    """Forms without their macrons -> the forms."""
    folded: dict[str, list[str]] = {}
    for form in _index():
        folded.setdefault(form.translate(_FOLD), []).append(form)
    return {key: tuple(found) for key, found in folded.items()}


@cache
def _persons() -> dict[str, str]:
    """Personal pronoun -> its person, such as 1s."""
    return {
        row["class"]: row["person"] for row in read_table("pronouns.csv", NOMINAL["pronouns.csv"])
    }


def _forms(lexeme: Lexeme) -> Iterator[Reading]:
    if lexeme.pos in ("noun", "name", "pron"):
        person = _persons().get(lexeme.lemma, "3")[0]
        for (case, number), form in decline(lexeme).items():
            yield Reading(
                form.text, lexeme, "noun", case, number, lexeme.gender, person, sure=form.sure
            )
    elif lexeme.pos in ("adj", "det", "num"):
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
                    sure=form.sure,
                )
    elif lexeme.pos == "verb":
        for (tense, mood, person), form in conjugate(lexeme).items():
            yield _verb(form.text, lexeme, tense, mood, person, form.sure)
        for row in load_grammar().variants:
            if lexeme.paradigm == row["class"] and ends_in(lexeme.stem, row["after"]):
                yield _verb(
                    lexeme.stem + row["ending"],
                    lexeme,
                    row["tense"],
                    row["mood"],
                    row["person"],
                    True,
                )
    else:
        yield Reading(lexeme.lemma, lexeme, "word")


def _verb(text: str, lexeme: Lexeme, tense: str, mood: str, person: str, sure: bool) -> Reading:
    who = ("", "") if person == NO_PERSON else (person[0], {"s": "sg", "p": "pl"}[person[1]])
    return Reading(
        text, lexeme, "verb", person=who[0], number=who[1], tense=tense, mood=mood, sure=sure
    )


def _edits(word: str) -> Iterator[str]:
    """Every word one letter away (Norvig 2007), without macrons."""
    letters = normalize("NFC", "abdeghijklmnñopqrstuvyz")
    for i in range(len(word) + 1):
        head, tail = word[:i], word[i:]
        if tail:
            yield head + tail[1:]
            yield from (head + letter + tail[1:] for letter in letters)
        if len(tail) > 1:
            yield head + tail[1] + tail[0] + tail[2:]
        yield from (head + letter + tail for letter in letters)
