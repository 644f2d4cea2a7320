"""Inflection: from a lexeme to every form that the ending tables give it.

The tables (`nouns.csv`, `pronouns.csv`, `adjectives.csv`, `verbs.csv`) hold all facts, exceptions
included; the code only attaches endings. Each row belongs to a class and has cells such as

    -osa    attach to the stem                      -osa°   the same, but inferred by analogy
    <von    attach to the stem without its last     -o/-os  two forms, the usual one first
            letter
    iksan   a whole word                            —       not established: no form

A row whose column `after` is not empty applies only to stems with that ending (`Vl Vr` is a vowel
followed by l or r) and replaces the general row. data/README.md lists the sources of the cells.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from types import MappingProxyType
from typing import NamedTuple

from valyrian_jax.errors import UserError
from valyrian_jax.language.words.lexicon import NOMINAL_POS, Lexeme, read_table

CASES = ("nom", "acc", "gen", "dat", "loc", "ins", "com", "voc")
NUMBERS = ("sg", "pl", "paucal", "collective")
GENDERS = ("lunar", "solar", "terrestrial", "aquatic")
# An adjective comes after its noun, before it, or before it and before a vowel.
POSITIONS = ("full", "prepositive", "prevocalic")
PERSONS = ("1s", "2s", "3s", "1p", "2p", "3p")
TENSES = ("present", "aorist", "future", "imperfect", "perfect", "pluperfect", "past habitual")
MOODS = (
    "indicative",
    "subjunctive",
    "passive",
    "passive subjunctive",
    "imperative",
    "infinitive",
    "participle",
)
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


INFERRED = "°"  # after an ending, a class or a frame: accepted, never generated

# The perfect stem of a consonant-final verb, by the last letter of its stem. The attested ones
# follow this table, except for a few (jēld-, mād-), so what it gives is inferred.
_PERFECT_ENDINGS = {
    **{letter: letter + "t" for letter in "lmnprs"},
    **{"b": "pt", "m": "mpt", "k": "tt", "d": "tt", "z": "st", "g": "gd"},
}


class Form(NamedTuple):
    """An inflected form.

    Attributes:
        text: The form.
        attested: Whether a source attests its ending, not only analogy.
    """

    text: str
    attested: bool


class InflectedForm(NamedTuple):
    """A form of a paradigm with its features."""

    features: tuple[str, ...]
    text: str
    attested: bool


class Paradigm(NamedTuple):
    """A class of the ending tables with the stems of a word, and whether a source gives it."""

    name: str
    stem: str
    perfect_stem: str
    attested: bool = True


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
    """Return texts one of which every form of an inflected word begins with.

    They are its stems, with or without the last letter, and the whole words of the ending tables.
    """
    tables = VERB_TABLES if lexeme.pos == "verb" else ADJECTIVE_TABLES
    tables = NOMINAL_TABLES if lexeme.pos in NOMINAL_POS else tables
    beginnings = set()
    for paradigm in list_paradigms(lexeme):
        if paradigm.name in ("", "indecl") or paradigm.name[0] == "=":
            beginnings.add(lexeme.lemma)
            continue
        for ending, is_perfect in _list_kinds_of_cells(paradigm.name, tuple(tables)):
            stem = paradigm.perfect_stem if is_perfect else paradigm.stem
            if stem or not is_perfect or ending not in "-<":
                beginnings.add({"-": stem, "<": stem[:-1]}.get(ending, ending))
    return beginnings


def _list_paradigm_forms(lexeme: Lexeme, paradigm: Paradigm) -> Iterator[InflectedForm]:
    if paradigm.name in ("", "indecl") or paradigm.name[0] == "=":
        yield from _list_invariable_forms(lexeme, paradigm)
    elif lexeme.pos == "verb":
        columns = [*PERSONS, NO_PERSON]
        for key, forms in _inflect(lexeme, paradigm, VERB_TABLES, ["tense", "mood"], columns):
            yield from (InflectedForm(key, *form) for form in forms)
    elif lexeme.pos in NOMINAL_POS:
        for key, forms in _inflect(lexeme, paradigm, NOMINAL_TABLES, ["number"], CASES):
            yield from (InflectedForm(key[::-1], *form) for form in forms)
    else:
        keys = ["position", "gender", "number"]
        for key, forms in _inflect(lexeme, paradigm, ADJECTIVE_TABLES, keys, CASES):
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
        return {"2": "com", "3": "ins"}.get(list_paradigms(noun)[-1].name[:1], case)
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


_Cells = Iterator[tuple[tuple[str, ...], list[Form]]]


def _inflect(
    lexeme: Lexeme,
    paradigm: Paradigm,
    tables: Mapping[str, list[str]],
    keys: Sequence[str],
    columns: Sequence[str],
) -> _Cells:
    """Yield ((*row keys, column), forms) for every established cell of a paradigm."""
    rows = [
        row
        for name in tables
        for row in _rows_by_class(name, tuple(tables[name])).get(paradigm.name, ())
    ]
    if not rows:
        raise UserError(
            f"lexicon.csv: {lexeme.lemma!r} has the class {paradigm.name!r}, which is not in "
            f"{' or '.join(tables)}; correct it or leave it empty"
        )
    row_by_key: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        key = tuple(row[k] for k in keys)
        if has_ending(paradigm.stem, row["after"]) and (key not in row_by_key or row["after"]):
            row_by_key[key] = row
    for key, row in row_by_key.items():
        is_perfect = row.get("base") == "perfect"
        stem = paradigm.perfect_stem if is_perfect else paradigm.stem
        for column in columns:
            cell = row[column]
            if cell in ("", "—") or (is_perfect and not stem and cell[0] in "-<"):
                continue
            yield (*key, column), [_attach(stem, ending) for ending in cell.split("/")]


def _attach(stem: str, cell: str) -> Form:
    ending = cell.removesuffix(INFERRED)
    if ending[0] == "-":
        text = stem + ending[1:]
    else:
        text = stem[:-1] + ending[1:] if ending[0] == "<" else ending
    return Form(text, attested=ending == cell)


@cache
def _list_kinds_of_cells(paradigm: str, tables: tuple[str, ...]) -> frozenset[tuple[str, bool]]:
    """Return "-", "<" or the whole word of every ending of a class, and if it is of the perfect."""
    columns = {**NOMINAL_TABLES, **ADJECTIVE_TABLES, **VERB_TABLES}
    rows = [
        row
        for name in tables
        for row in _rows_by_class(name, tuple(columns[name])).get(paradigm, ())
    ]
    return frozenset(
        (
            ending[0] if ending[0] in "-<" else ending.removesuffix(INFERRED),
            row.get("base") == "perfect",
        )
        for row in rows
        for column in (*CASES, *PERSONS, NO_PERSON)
        for ending in row.get(column, "").split("/")
        if ending not in ("", "—")
    )


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
