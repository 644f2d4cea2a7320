"""Inflection: from a lexeme to every form that the ending tables give it.

The tables (`nouns.csv`, `pronouns.csv`, `adjectives.csv`, `verbs.csv`) hold all facts, exceptions
included; the code only attaches endings. Each row belongs to a class and has cells such as

    -osa    attach to the stem       -osa°   the same, but inferred by analogy
    iksan   a whole word             —       not established: no form

A row whose column `after` is not empty applies only to stems with that ending (`Vl Vr` is a vowel
followed by l or r) and replaces the general row. data/README.md lists the sources of the cells.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

from valyrian_jax.errors import UserError
from valyrian_jax.language.words.lexicon import Lexeme, read_table

CASES = ("nom", "acc", "gen", "dat", "loc", "ins", "com", "voc")
NUMBERS = ("sg", "pl", "paucal", "collective")
GENDERS = ("lunar", "solar", "terrestrial", "aquatic")
# An adjective comes after its noun, before it, or before it and before a vowel.
POSITIONS = ("full", "prepositive", "prevocalic")
PERSONS = ("1s", "2s", "3s", "1p", "2p", "3p")
TENSES = ("present", "aorist", "future", "imperfect", "perfect", "pluperfect", "past habitual")
MOODS = ("indicative", "subjunctive", "passive", "imperative", "infinitive", "participle")
NO_PERSON = "invariable"  # the person of infinitives and participles

LONG_VOWELS = dict(zip("aeiouy", "āēīōūȳ", strict=True))
SHORT_VOWELS = {long: short for short, long in LONG_VOWELS.items()}
VOWELS = frozenset([*LONG_VOWELS, *SHORT_VOWELS])

NOMINAL_TABLES = {
    "nouns.csv": ["class", "gender", "number", "after", *CASES],
    "pronouns.csv": ["class", "person", "gender", "number", "after", *CASES],
}
ADJECTIVE_TABLES = {"adjectives.csv": ["class", "position", "gender", "number", "after", *CASES]}
VERB_TABLES = {"verbs.csv": ["class", "after", "base", "tense", "mood", *PERSONS, NO_PERSON]}


class Form(NamedTuple):
    """An inflected form: its text, and whether a source attests its ending or analogy gives it."""

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
    if not noun.paradigm or noun.paradigm == "indecl":
        return MappingProxyType({("nom", "sg"): Form(noun.lemma, True)})
    forms = _inflect(noun, NOMINAL_TABLES, ["number"], CASES)
    return MappingProxyType({(case, number): form for (number, case), form in forms})


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
    if lexeme.paradigm == "indecl":
        lemma = Form(lexeme.lemma, True)
        return MappingProxyType(
            {(g, n, c): lemma for g in GENDERS for n in ("sg", "pl") for c in CASES}
        )
    if not lexeme.paradigm:
        return MappingProxyType({})
    forms = _inflect(lexeme, ADJECTIVE_TABLES, ["position", "gender", "number"], CASES)
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
    if not verb.paradigm:
        return MappingProxyType({("present", "infinitive", NO_PERSON): Form(verb.lemma, True)})
    forms = _inflect(verb, VERB_TABLES, ["tense", "mood"], [*PERSONS, NO_PERSON])
    return MappingProxyType({(tense, mood, person): form for (tense, mood, person), form in forms})


def lengthen_last_vowel(word: str) -> str | None:
    """Return the coordinated form, "and ...": taoba -> taobā; None if the last vowel is long."""
    return _replace_last_vowel(word, LONG_VOWELS)


def shorten_last_vowel(word: str) -> str | None:
    """Undo `lengthen_last_vowel`; return None if the last vowel is short."""
    return _replace_last_vowel(word, SHORT_VOWELS)


def _replace_last_vowel(word: str, replacements: Mapping[str, str]) -> str | None:
    index = next((i for i in reversed(range(len(word))) if word[i] in VOWELS), None)
    if index is None or word[index] not in replacements:
        return None
    return word[:index] + replacements[word[index]] + word[index + 1 :]


def concord_case(noun: Lexeme, case: str) -> str:
    """Return the case of an adjective beside a noun that merges instrumental and comitative.

    Adjectives show the comitative besides the second declension (loktomy kirinome) and the
    instrumental besides the third (issaroso kirinose). Source: Najahho, "High Valyrian Adjectives".
    """
    if case in ("ins", "com"):
        return {"2": "com", "3": "ins"}.get(noun.paradigm[:1], case)
    return case


def concord_number(number: str) -> str:
    """Return the number of agreeing words: "sg" for collectives, "pl" for paucals.

    Source: Najahho, "Number".
    """
    return "sg" if number in ("sg", "collective") else "pl"


def has_ending(stem: str, endings: str) -> bool:
    """Test a stem against a cell `after`; an initial V is any vowel, and an empty cell matches."""
    return not endings or any(
        stem.endswith(ending.removeprefix("V"))
        and (ending[0] != "V" or stem[-len(ending)] in VOWELS)
        for ending in endings.split()
    )


def _inflect(
    lexeme: Lexeme, tables: Mapping[str, list[str]], keys: Sequence[str], columns: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], Form]]:
    """Yield ((*row keys, column), form) for every established cell of the lexeme's paradigm."""
    rows = [
        row
        for name in tables
        for row in _rows_by_class(name, tuple(tables[name])).get(lexeme.paradigm, ())
    ]
    if not rows:
        raise UserError(
            f"lexicon.csv: {lexeme.lemma!r} has the class {lexeme.paradigm!r}, which is not in "
            f"{' or '.join(tables)}; correct it or leave it empty"
        )
    row_by_key: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        key = tuple(row[k] for k in keys)
        if has_ending(lexeme.stem, row["after"]) and (key not in row_by_key or row["after"]):
            row_by_key[key] = row
    for key, row in row_by_key.items():
        stem = lexeme.perfect_stem if row.get("base") == "perfect" else lexeme.stem
        for column in columns:
            cell = row[column]
            ending = cell.removesuffix("°")
            has_no_stem = row.get("base") == "perfect" and not stem and ending.startswith("-")
            if cell in ("", "—") or has_no_stem:
                continue
            text = stem + ending[1:] if ending.startswith("-") else ending
            yield (*key, column), Form(text, attested=ending == cell)


@cache
def _rows_by_class(name: str, columns: tuple[str, ...]) -> dict[str, list[dict[str, str]]]:
    """Group the rows of a table by class; a row with several key values counts for each of them."""
    table: dict[str, list[dict[str, str]]] = {}
    for row in read_table(name, list(columns)):
        for cls in row["class"].split():
            for gender in row.get("gender", "").split() or [""]:
                for position in row.get("position", "").split() or [""]:
                    table.setdefault(cls, []).append(
                        {**row, "class": cls, "gender": gender, "position": position}
                    )
    return table
