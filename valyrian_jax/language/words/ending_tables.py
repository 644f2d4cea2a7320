"""The ending tables: from a class and its stems to the cells of a paradigm.

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
from typing import NamedTuple

from valyrian_jax.errors import UserError
from valyrian_jax.language.words.categories import CASES, NO_PERSON, PERSONS
from valyrian_jax.language.words.lexicon import Lexeme, read_table
from valyrian_jax.language.words.vowels import VOWELS

NOMINAL_TABLES = {
    "nouns.csv": ["class", "gender", "number", "after", *CASES],
    "pronouns.csv": ["class", "person", "gender", "number", "after", *CASES],
}
ADJECTIVE_TABLES = {"adjectives.csv": ["class", "position", "gender", "number", "after", *CASES]}
VERB_TABLES = {"verbs.csv": ["class", "after", "base", "tense", "mood", *PERSONS, NO_PERSON]}
INFERRED = "°"  # after an ending, a class or a frame: accepted, never generated


class Form(NamedTuple):
    """An inflected form.

    Attributes:
        text: The form.
        attested: Whether a source attests its ending, not only analogy.
    """

    text: str
    attested: bool


class Paradigm(NamedTuple):
    """A class of the ending tables with a word's stems, and whether a source attests it."""

    name: str
    stem: str
    perfect_stem: str
    attested: bool = True


def has_ending(stem: str, endings: str) -> bool:
    """Test a stem against a cell `after`; an initial V is any vowel, and an empty cell matches."""
    return not endings or any(
        stem.endswith(ending.removeprefix("V"))
        and (ending[0] != "V" or stem[-len(ending)] in VOWELS)
        for ending in endings.split()
    )


_Cells = Iterator[tuple[tuple[str, ...], list[Form]]]


def list_cells(
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
def list_kinds_of_cells(paradigm: str, tables: tuple[str, ...]) -> frozenset[tuple[str, bool]]:
    """Return "-", "<" or the whole word for every ending of a class, and whether it is perfect."""
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
