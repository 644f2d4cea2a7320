"""Inflection: lexeme -> every form of it that the ending tables give.

The tables (`nouns.csv`, `pronouns.csv`, `adjectives.csv`, `verbs.csv`) hold all the facts, exceptions included; the
code only attaches endings. Each row belongs to a class and holds cells such as

    -osa    attach to the stem       -osa°   the same, but inferred by analogy: an unsure form
    iksan   a whole word             —       not established: no form at all

A row whose column `after` is not empty holds only for stems that end so (`Vl Vr` = a vowel and l or r), and replaces
the general row. Source of every cell: the pages listed in data/README.md.
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
POSITIONS = (
    "full",
    "prepositive",
    "prevocalic",
)  # after the noun; before it; before it and before a vowel
PERSONS = ("1s", "2s", "3s", "1p", "2p", "3p")
TENSES = ("present", "aorist", "future", "imperfect", "perfect", "pluperfect", "past habitual")
MOODS = ("indicative", "subjunctive", "passive", "imperative", "infinitive", "participle")
NO_PERSON = "invariable"  # the person of infinitives and participles

LONG = dict(zip("aeiouy", "āēīōūȳ", strict=True))
VOWELS = frozenset([*LONG, *LONG.values()])

NOMINAL = {
    "nouns.csv": ["class", "gender", "number", "after", *CASES],
    "pronouns.csv": ["class", "person", "gender", "number", "after", *CASES],
}
ADJECTIVAL = {"adjectives.csv": ["class", "position", "gender", "number", "after", *CASES]}
VERBAL = {"verbs.csv": ["class", "after", "base", "tense", "mood", *PERSONS, NO_PERSON]}


class Form(NamedTuple):
    """An inflected form: its text, and whether a source gives its ending (False: inferred by analogy)."""

    text: str
    sure: bool


@cache
def decline(noun: Lexeme) -> Mapping[tuple[str, str], Form]:
    """The case forms of a noun, name or personal pronoun.

    Args:
        noun: a lexeme; one whose paradigm is unknown has only its lemma.

    Returns:
        (case, number) -> form, over CASES and NUMBERS; a cell that is not established is absent.

    Raises:
        UserError: the paradigm stands in neither nouns.csv nor pronouns.csv.
    """
    if not noun.paradigm or noun.paradigm == "indecl":
        return MappingProxyType({("nom", "sg"): Form(noun.lemma, True)})
    cells = _cells(noun, NOMINAL, ["number"], CASES)
    return MappingProxyType({(case, number): form for (number, case), form in cells})


@cache
def inflect_adjective(lexeme: Lexeme, position: str) -> Mapping[tuple[str, str, str], Form]:
    """The agreeing forms of an adjective, determiner or numeral.

    Args:
        lexeme: the word; an indeclinable one has its lemma in every cell, one of unknown class no form at all.
        position: one of POSITIONS.

    Returns:
        (gender, number, case) -> form; the number is "sg" (with singular and collective nouns) or "pl" (with plural
        and paucal nouns). A cell that is not established is absent.

    Raises:
        UserError: the paradigm does not stand in adjectives.csv.
        ValueError: an unknown position.
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
    cells = _cells(lexeme, ADJECTIVAL, ["position", "gender", "number"], CASES)
    return MappingProxyType(
        {(g, n, c): form for (place, g, n, c), form in cells if place == position}
    )


@cache
def conjugate(verb: Lexeme) -> Mapping[tuple[str, str, str], Form]:
    """The forms of a verb.

    Args:
        verb: a lexeme; one whose class is unknown has only its infinitive.

    Returns:
        (tense, mood, person) -> form, over TENSES, MOODS and PERSONS; infinitives and participles have the person
        NO_PERSON. A cell that is not established is absent; so are the perfect tenses without a known perfect stem.

    Raises:
        UserError: the paradigm does not stand in verbs.csv.
    """
    if not verb.paradigm:
        return MappingProxyType({("present", "infinitive", NO_PERSON): Form(verb.lemma, True)})
    cells = _cells(verb, VERBAL, ["tense", "mood"], [*PERSONS, NO_PERSON])
    return MappingProxyType({(tense, mood, person): form for (tense, mood, person), form in cells})


def lengthen_last_vowel(word: str) -> str | None:
    """The form that adds a word to the one before it, "and": taoba -> taobā. None: its last vowel is long already."""
    for i in range(len(word) - 1, -1, -1):
        if word[i] in VOWELS:
            return word[:i] + LONG[word[i]] + word[i + 1 :] if word[i] in LONG else None
    return None


def concord_case(noun: Lexeme, case: str) -> str:
    """The case an adjective shows beside a noun, for nouns that merge instrumental and comitative.

    Beside the second declension (ins. = com. -omy) both are comitative, beside the third (-oso) both are instrumental:
    loktomy kirinome, issaroso kirinose. Source: Najahho, "High Valyrian Adjectives".
    """
    if case in ("ins", "com"):
        return {"2": "com", "3": "ins"}.get(noun.paradigm[:1], case)
    return case


def _cells(
    lexeme: Lexeme, tables: Mapping[str, list[str]], keys: Sequence[str], columns: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], Form]]:
    """(row key values ..., column) and form, for every established cell of the lexeme's paradigm."""
    rows = [
        row
        for name in tables
        for row in _by_class(name, tuple(tables[name])).get(lexeme.paradigm, ())
    ]
    if not rows:
        raise UserError(
            f"lexicon.csv: {lexeme.lemma!r} has the class {lexeme.paradigm!r}, unknown to {' and '.join(tables)}; "
            "correct it or leave it empty"
        )
    chosen: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        key = tuple(row[k] for k in keys)
        if ends_in(lexeme.stem, row["after"]) and (key not in chosen or row["after"]):
            chosen[key] = row
    for key, row in chosen.items():
        base = lexeme.perfect_stem if row.get("base") == "perfect" else lexeme.stem
        for column in columns:
            cell = row[column]
            ending = cell.removesuffix("°")
            if cell in ("", "—") or (
                ending.startswith("-") and row.get("base") == "perfect" and not base
            ):
                continue
            text = base + ending[1:] if ending.startswith("-") else ending
            yield (*key, column), Form(text, sure=ending == cell)


def ends_in(stem: str, after: str) -> bool:
    """Whether a stem ends in one of the endings of a cell `after`; an initial V stands for any vowel."""
    return not after or any(
        stem.endswith(end.removeprefix("V")) and (end[0] != "V" or stem[-len(end)] in VOWELS)
        for end in after.split()
    )


@cache
def _by_class(name: str, columns: tuple[str, ...]) -> dict[str, list[dict[str, str]]]:
    """The rows of a table by class. A key cell may list several values (`lunar solar`): the row counts for each."""
    table: dict[str, list[dict[str, str]]] = {}
    for row in read_table(name, list(columns)):
        for cls in row["class"].split():
            for gender in row.get("gender", "").split() or [""]:
                for position in row.get("position", "").split() or [""]:
                    table.setdefault(cls, []).append(
                        {**row, "class": cls, "gender": gender, "position": position}
                    )
    return table
