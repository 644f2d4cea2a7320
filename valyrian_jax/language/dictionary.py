"""The dictionary: from a word in any form, or in English, to entries of the lexicon."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from itertools import chain
from typing import Any, Literal, NamedTuple

from valyrian_jax.language.checker.reading import Word, read_word
from valyrian_jax.language.checker.text import tokenize
from valyrian_jax.language.examples import find_example
from valyrian_jax.language.meanings import (
    find_by_sense,
    find_by_words,
    list_english_words,
    list_phrases,
    normalize_english,
)
from valyrian_jax.language.template import PUNCTUATION
from valyrian_jax.language.words.analysis import Reading
from valyrian_jax.language.words.features import FEATURE_NAMES, describe_features, group_readings
from valyrian_jax.language.words.lexicon import Lexeme, load_lexicon
from valyrian_jax.language.words.morphology import list_paradigms
from valyrian_jax.language.words.paradigm import paradigm_record
from valyrian_jax.language.words.spelling import fold, suggest

Match = Literal["form", "sense", "spelling", "words"]

MAX_ENTRIES = 12  # entries that a query finds at most
_MAX_NEAREST = 5
_MAX_ENGLISH = 60  # characters of a meaning to search for
_POS = {
    "adj": "adjective",
    "det": "determiner",
    "num": "numeral",
    "pron": "pronoun",
    "conj": "conjunction",
    "adv": "adverb",
    "interj": "interjection",
    "phrase": "set phrase",
}
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
_ROMAN = {"I": "first class", "II": "second class", "IIr": "second class", "III": "third class"}


class Entry(NamedTuple):
    """A word of the lexicon that a query found.

    Attributes:
        lexeme: The word.
        match: Why it was found: the query is one of its forms, one of its senses, one of its forms
            in another spelling, or words of its meaning.
        readings: What the query is as a form of this word; empty if it is English.
    """

    lexeme: Lexeme
    match: Match
    readings: tuple[Reading, ...] = ()

    @property
    def form(self) -> str:
        """The form that the query names, in its right spelling; "" if the query is English."""
        return self.readings[0].text if self.readings else ""


class LookUp(NamedTuple):
    """The result of looking a word up.

    Attributes:
        query: What was looked up.
        entries: What was found, the best matches first.
        nearest: Similar known words of both languages, if nothing was found.
    """

    query: str
    entries: tuple[Entry, ...]
    nearest: tuple[str, ...] = ()


def look_up(text: str) -> LookUp:
    """Look up a word: in any form, without macrons, in any capitals and Unicode form, or English.

    Example:
        >>> from valyrian_jax.language import look_up
        >>> [entry] = look_up("zaldrizoti").entries
        >>> entry.lexeme.lemma, entry.lexeme.gloss, entry.form
        ('zaldrīzes', 'dragon', 'zaldrīzoti')
        >>> {reading.case for reading in entry.readings} == {"gen", "dat", "loc"}
        True
        >>> look_up("dragon").entries[0].lexeme.lemma
        'zaldrīzes'

    Args:
        text: One word, a set phrase, or an English word or meaning.
    """
    tokens = [token for token in tokenize(text) if token not in PUNCTUATION]
    entries: dict[tuple[str, str], Entry] = {}
    for entry in chain(_find_forms(tokens), _find_meanings(text, tokens)):
        if entry.match == "words" and any(other.match == "form" for other in entries.values()):
            break
        entries.setdefault((entry.lexeme.lemma, entry.lexeme.pos), entry)
        if len(entries) == MAX_ENTRIES:
            break
    order = ("form", "sense", "spelling", "words")
    ranked = sorted(entries.values(), key=lambda entry: order.index(entry.match))
    return LookUp(text, tuple(ranked), () if ranked else _find_nearest(text, tokens))


def _find_forms(tokens: list[str]) -> Iterator[Entry]:
    """Yield the words of which a query is a form, and the set phrases that it is or is part of."""
    if len(tokens) == 1:
        word = read_word(tokens[0])
        for group in _group_by_word(word.readings):
            is_exact = group[0].text.lower() == word.text.lower()
            yield Entry(group[0].lexeme, "form" if is_exact else "spelling", tuple(group))
        if not word.readings and word.is_known:
            yield from (Entry(p, "form") for p in list_phrases() if _has_part(p, word))
    query = fold(" ".join(tokens))
    for lexeme in (*load_lexicon(), *list_phrases()):
        is_phrase = " " in lexeme.lemma or lexeme.pos == "phrase"
        if is_phrase and fold(lexeme.lemma) == query:
            yield Entry(lexeme, "form")


def _group_by_word(readings: Iterable[Reading]) -> Iterable[list[Reading]]:
    groups: dict[tuple[str, str], list[Reading]] = {}
    for reading in readings:
        groups.setdefault((reading.lexeme.lemma, reading.lexeme.pos), []).append(reading)
    return groups.values()


def _has_part(phrase: Lexeme, word: Word) -> bool:
    return word.literal in phrase.lemma.split()


def _find_meanings(text: str, tokens: list[str]) -> Iterator[Entry]:
    if tokens and len(text) <= _MAX_ENGLISH:
        yield from (Entry(lexeme, "sense") for lexeme in find_by_sense(text))
        yield from (Entry(lexeme, "words") for lexeme in find_by_words(text))


def _find_nearest(text: str, tokens: list[str]) -> tuple[str, ...]:
    if len(tokens) != 1 or len(text) > _MAX_ENGLISH:
        return ()
    english = get_close_matches(normalize_english(tokens[0]), list_english_words(), 3, 0.75)
    return tuple(dict.fromkeys([*suggest(tokens[0]), *english]))[:_MAX_NEAREST]


def describe_entry(entry: Entry) -> list[str]:
    """Describe the form that the query names, in a line for each spelling."""
    lines = []
    for group in group_readings(entry.readings):
        first = group[0]
        features = describe_features(group)
        marks = [f'"and {first.base_text}"'] * first.coordinated
        marks += ["inferred"] * (not first.attested)
        text = " ".join(filter(None, [features, f"({', '.join(marks)})" if marks else ""]))
        if text:
            lines.append(f"{first.text}: {text}")
    return lines


def describe_lexeme(lexeme: Lexeme) -> str:
    """Describe a word in plain words: "noun, solar, fourth declension"."""
    parts = [_POS.get(lexeme.pos, lexeme.pos), lexeme.gender, _describe_class(lexeme)]
    if lexeme.pos == "adp":
        place, *cases = lexeme.frame.split()
        named = " or ".join(FEATURE_NAMES[case] for case in cases)
        parts = [f"{'pre' if place == 'before' else 'post'}position", f"with the {named}"]
    elif lexeme.pos == "phrase":
        parts.append(lexeme.frame)
    return ", ".join(filter(None, parts))


def _describe_class(lexeme: Lexeme) -> str:
    names = dict.fromkeys(p.name for p in list_paradigms(lexeme))
    return " or ".join(dict.fromkeys(_name_class(lexeme, name) for name in names))


def _name_class(lexeme: Lexeme, name: str) -> str:
    """Name a class of the ending tables; "" if the part of speech already says all."""
    if lexeme.pos not in ("noun", "name", "pron", "adj", "det", "num", "verb"):
        return ""
    if not name or name[0] == "=":
        return "its other forms are not known"
    if name == "indecl":
        return "does not change"
    if name in _ROMAN:
        return _ROMAN[name]
    if name[0].isdigit():
        return f"{_ORDINALS[int(name[0]) - 1]} declension"
    return _name_conjugation(lexeme, name) if lexeme.pos == "verb" else ""


def _name_conjugation(lexeme: Lexeme, name: str) -> str:
    if name.startswith(("c-fin", "v-fin")):
        return f"stem in a {'consonant' if name[0] == 'c' else 'vowel'}"
    if name == "agon":  # The infinitive does not tell whether the stem ends in a.
        return ""
    return "irregular" if name == lexeme.lemma else f"inflects like {name}"


def entry_record(entry: Entry) -> dict[str, Any]:
    """Return an entry as a JSON object, with all forms of the word and an attested example."""
    lexeme = entry.lexeme
    example = find_example(lexeme, entry.form)
    return {
        **paradigm_record(lexeme),
        "source": lexeme.source,
        "description": describe_lexeme(lexeme),
        "match": entry.match,
        "found": describe_entry(entry),
        "example": example and example._asdict(),
    }


def look_up_record(result: LookUp) -> dict[str, Any]:
    """Return the result of looking a word up as a JSON object."""
    return {
        "query": result.query,
        "entries": [*map(entry_record, result.entries)],
        "nearest": [*result.nearest],
    }
