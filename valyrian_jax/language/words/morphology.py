"""Inflection: from a lexeme to every form that the ending tables give it."""

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product
from types import MappingProxyType
from typing import NamedTuple

from valyrian_jax.language.words.categories import CASES, GENDERS, NO_PERSON, PERSONS, POSITIONS
from valyrian_jax.language.words.ending_tables import (
    ADJECTIVE_TABLES,
    INFERRED,
    NOMINAL_TABLES,
    VERB_TABLES,
    Form,
    Paradigm,
    list_cells,
    list_kinds_of_cells,
)
from valyrian_jax.language.words.lexicon import NOMINAL_POS, Lexeme

# The end of the perfect stem of a consonant-final verb, by the last letter of its stem. The
# attested stems follow this table, except for a few (jēld-, mād-), so its results are inferred.
_PERFECT_ENDINGS = {
    **{letter: letter + "t" for letter in "lmnprs"},
    **{"b": "pt", "m": "mpt", "k": "tt", "d": "tt", "z": "st", "g": "gd"},
}


class InflectedForm(NamedTuple):
    """A form of a paradigm with its features."""

    features: tuple[str, ...]
    text: str
    attested: bool


@cache
def decline(noun: Lexeme) -> Mapping[tuple[str, str], Form]:
    """Return the case forms of a noun, name or personal pronoun.

    Args:
        noun: A lexeme; one of unknown paradigm has only its lemma.

    Returns:
        (case, number) -> form, over CASES and NUMBERS, without cells that are not established.

    Raises:
        UserError: Neither nouns.csv nor pronouns.csv has the paradigm.
    """
    return MappingProxyType({(c, n): form for (c, n), form in _usual_forms(noun).items()})


@cache
def inflect_adjective(lexeme: Lexeme, position: str) -> Mapping[tuple[str, str, str], Form]:
    """Return the agreeing forms of an adjective, determiner or numeral.

    Args:
        lexeme: The word. An indeclinable one has its lemma in every cell; one of unknown class has
            no forms.
        position: One of POSITIONS.

    Returns:
        (gender, number, case) -> form, without cells that are not established. The number is "sg"
        (with singular and collective nouns) or "pl" (with plural and paucal nouns).

    Raises:
        UserError: adjectives.csv does not have the paradigm.
        ValueError: The position is unknown.
    """
    if position not in POSITIONS:
        raise ValueError(f"position must be one of {', '.join(POSITIONS)}, not {position!r}")
    forms = _usual_forms(lexeme).items()
    return MappingProxyType({(g, n, c): form for (p, g, n, c), form in forms if p == position})


@cache
def conjugate(verb: Lexeme) -> Mapping[tuple[str, str, str], Form]:
    """Return the forms of a verb.

    Args:
        verb: A lexeme; one of unknown class has only its infinitive.

    Returns:
        (tense, mood, person) -> form, over TENSES, MOODS and PERSONS, without cells that are not
        established and without perfect tenses where the perfect stem is unknown. Infinitives and
        participles have the person NO_PERSON.

    Raises:
        UserError: verbs.csv does not have the paradigm.
    """
    return MappingProxyType({(t, m, p): form for (t, m, p), form in _usual_forms(verb).items()})


def _usual_forms(lexeme: Lexeme) -> dict[tuple[str, ...], Form]:
    """Return one form for each set of features: the first that is attested, or the first one."""
    forms: dict[tuple[str, ...], Form] = {}
    for features, text, attested in list_forms(lexeme):
        if features not in forms or attested > forms[features].attested:
            forms[features] = Form(text, attested)
    return forms


@cache
def list_forms(lexeme: Lexeme) -> tuple[InflectedForm, ...]:
    """Return every form of an inflected word.

    The features are (case, number) of a noun, name or pronoun; (position, gender, number, case) of
    an adjective, determiner or numeral; and (tense, mood, person) of a verb.

    Raises:
        UserError: The ending tables do not have one of its paradigms.
    """
    forms: dict[tuple[tuple[str, ...], str], bool] = {}
    for paradigm in list_paradigms(lexeme):
        for features, text, attested in _list_paradigm_forms(lexeme, paradigm):
            key = features, text
            forms[key] = forms.get(key, False) or (attested and paradigm.attested)
    return tuple(InflectedForm(*key, attested) for key, attested in forms.items())


def list_paradigms(lexeme: Lexeme) -> tuple[Paradigm, ...]:
    """Return the paradigms of a word, and for some verbs one with the regular perfect stem."""
    stem, is_known = lexeme.stem, not lexeme.is_inferred
    paradigms = [
        Paradigm(
            name.removesuffix(INFERRED),
            stem,
            lexeme.perfect_stem,
            is_known and not name.endswith(INFERRED),
        )
        for name in lexeme.paradigm.split() or [""]
    ]
    ending = _PERFECT_ENDINGS.get(stem[-1:])
    if ending and lexeme.paradigm == "c-fin" and not lexeme.perfect_stem:
        paradigms.append(Paradigm("c-fin", stem, stem[:-1] + ending, attested=False))
    return tuple(paradigms)


def list_beginnings(lexeme: Lexeme) -> set[str]:
    """Return a set of texts such that every form of an inflected word begins with one of them.

    They are its stems, with or without the last letter, and the whole words of the ending tables.
    """
    tables = VERB_TABLES if lexeme.pos == "verb" else ADJECTIVE_TABLES
    tables = NOMINAL_TABLES if lexeme.pos in NOMINAL_POS else tables
    beginnings = set()
    for paradigm in list_paradigms(lexeme):
        if paradigm.name in ("", "indecl") or paradigm.name[0] == "=":
            beginnings.add(lexeme.lemma)
            continue
        for ending, is_perfect in list_kinds_of_cells(paradigm.name, tuple(tables)):
            stem = paradigm.perfect_stem if is_perfect else paradigm.stem
            if stem or not is_perfect or ending not in "-<":
                beginnings.add({"-": stem, "<": stem[:-1]}.get(ending, ending))
    return beginnings


def _list_paradigm_forms(lexeme: Lexeme, paradigm: Paradigm) -> Iterator[InflectedForm]:
    if paradigm.name in ("", "indecl") or paradigm.name[0] == "=":
        yield from _list_invariable_forms(lexeme, paradigm)
    elif lexeme.pos == "verb":
        columns = [*PERSONS, NO_PERSON]
        for key, forms in list_cells(lexeme, paradigm, VERB_TABLES, ["tense", "mood"], columns):
            yield from (InflectedForm(key, *form) for form in forms)
    elif lexeme.pos in NOMINAL_POS:
        for key, forms in list_cells(lexeme, paradigm, NOMINAL_TABLES, ["number"], CASES):
            yield from (InflectedForm(key[::-1], *form) for form in forms)
    else:
        keys = ["position", "gender", "number"]
        for key, forms in list_cells(lexeme, paradigm, ADJECTIVE_TABLES, keys, CASES):
            yield from (InflectedForm(key, *form) for form in forms)


def _list_invariable_forms(lexeme: Lexeme, paradigm: Paradigm) -> Iterator[InflectedForm]:
    """Yield the dictionary form of a word that does not change, or whose class is not known."""
    if lexeme.pos == "verb":
        yield InflectedForm(("present", "infinitive", NO_PERSON), lexeme.lemma, attested=True)
    elif paradigm.name[:1] == "=":
        yield InflectedForm((*paradigm.name[1:].split("/"),), lexeme.lemma, attested=True)
    elif lexeme.pos in NOMINAL_POS:
        yield InflectedForm(("nom", "sg"), lexeme.lemma, attested=True)
        if lexeme.pos == "name":  # as in "Dohaerās, Vhagar!"
            yield InflectedForm(("voc", "sg"), lexeme.lemma, attested=True)
    elif paradigm.name == "indecl":
        for key in product(POSITIONS, GENDERS, ("sg", "pl"), CASES):
            yield InflectedForm(key, lexeme.lemma, attested=True)


def concord_case(noun: Lexeme, case: str) -> str:
    """Return the case of an adjective beside a noun that merges instrumental and comitative.

    Adjectives show the comitative besides the second declension (loktomy kirinome) and the
    instrumental besides the third (issaroso kirinose). Source: Najahho, "High Valyrian Adjectives".
    """
    if case in ("ins", "com"):
        return {"2": "com", "3": "ins"}.get(list_paradigms(noun)[-1].name[:1], case)
    return case
