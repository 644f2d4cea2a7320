"""The paradigm of a word, as tables for people and as a record for programs."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from valyrian_jax.language.words.categories import (
    CASES,
    GENDERS,
    MOODS,
    NO_PERSON,
    NUMBERS,
    PERSONS,
    POSITIONS,
    TENSES,
)
from valyrian_jax.language.words.ending_tables import Form
from valyrian_jax.language.words.features import FEATURE_NAMES
from valyrian_jax.language.words.lexicon import ADJECTIVAL_POS, NOMINAL_POS, Lexeme
from valyrian_jax.language.words.morphology import InflectedForm, list_forms

_INFERRED, _MISSING = "°", "—"
_LEGEND = {_INFERRED: "inferred by analogy", _MISSING: "not established"}
_GAP = "  "  # between two columns
_MAX_WIDTH = 80 + len(_GAP)  # columns of a table, with a gap after the last one

_Forms = dict[tuple[str, ...], list[InflectedForm]]
_Cells = defaultdict[tuple[str, ...], str]
_Row = tuple[str, tuple[str, ...]]  # a name and its cells


class Table(NamedTuple):
    """A part of a paradigm: a title, the names of its columns, and its rows with their names."""

    title: str
    columns: Sequence[str]
    rows: Sequence[_Row]


def list_tables(lexeme: Lexeme) -> list[Table]:
    """List the tables of all forms of a word that `format_paradigm` formats."""
    tables = [table for table in map(_compact, _list_tables(lexeme)) if table.rows]
    cells = {cell for table in tables for _, row in table.rows for cell in row}
    return tables if len(cells - {_MISSING}) > 1 else []


def format_paradigm(lexeme: Lexeme) -> str:
    """Format all forms of a word as tables of at most 80 columns; "" if it does not change.

    Rows and columns without any form are left out, and equal neighbours are merged. The sign °
    marks a form inferred by analogy; — marks a form that is not established. A line under the
    tables explains the signs that occur.
    """
    tables = list_tables(lexeme)
    if not tables:
        return ""
    text = "\n\n".join(_format_tables(tables))
    legend = [f"{sign} {meaning}" for sign, meaning in _LEGEND.items() if sign in text]
    return "\n\n".join(filter(None, [text, "   ".join(legend)]))


def paradigm_record(lexeme: Lexeme) -> dict[str, Any]:
    """Return a word and its established forms as a JSON object.

    Each form has its features, its text, and "sure": whether a source attests its ending. A word
    that does not change has one form without features.
    """
    return {
        "lemma": lexeme.lemma,
        "pos": lexeme.pos,
        "class": lexeme.paradigm,
        "gender": lexeme.gender,
        "gloss": lexeme.gloss,
        "forms": [
            {**features, "text": form.text, "sure": form.attested}
            for features, form in _list_forms(lexeme)
        ],
    }


def _list_forms(lexeme: Lexeme) -> Iterator[tuple[dict[str, str], Form]]:
    names: tuple[str, ...] = ("mood", "tense", "person")
    if lexeme.pos in NOMINAL_POS:
        names = ("case", "number")
    elif lexeme.pos in ADJECTIVAL_POS:
        names = ("position", "gender", "number", "case")
    elif lexeme.pos != "verb":
        yield {}, Form(lexeme.lemma, not lexeme.is_inferred)
        return
    for features, forms in _group_forms(lexeme).items():
        if lexeme.pos == "verb":
            features = (features[1], features[0], features[2])
        for form in forms:
            yield dict(zip(names, features, strict=True)), Form(form.text, form.attested)


def _group_forms(lexeme: Lexeme) -> _Forms:
    """Group the forms of a word by their features."""
    groups: _Forms = {}
    for form in list_forms(lexeme):
        groups.setdefault(form.features, []).append(form)
    return groups


def _list_tables(lexeme: Lexeme) -> Iterator[Table]:
    if lexeme.pos in NOMINAL_POS:
        yield _make_noun_table(_format_cells(lexeme))
    elif lexeme.pos in ADJECTIVAL_POS:
        yield from _list_adjective_tables(_format_cells(lexeme))
    elif lexeme.pos == "verb":
        yield from _list_verb_tables(_format_cells(lexeme))


def _format_cells(lexeme: Lexeme) -> _Cells:
    """Map the features of a form to its text, with ° for inferred forms and — for missing ones."""
    return defaultdict(
        lambda: _MISSING,
        {
            features: "/".join(map(_format_form, forms))
            for features, forms in _group_forms(lexeme).items()
        },
    )


def _format_form(form: InflectedForm) -> str:
    return form.text if form.attested else form.text + _INFERRED


def _name(value: str) -> str:
    return FEATURE_NAMES.get(value, value)


def _make_noun_table(cells: _Cells) -> Table:
    rows = [(_name(case), tuple(cells[case, number] for number in NUMBERS)) for case in CASES]
    return Table("", [*map(_name, NUMBERS)], rows)


def _list_adjective_tables(cells: _Cells) -> Iterator[Table]:
    """Yield the forms of each position and number; before a vowel, only those that differ."""
    for position in POSITIONS:
        for number in ("sg", "pl"):
            rows = []
            for case in CASES:
                row, other = (
                    tuple(cells[name, gender, number, case] for gender in GENDERS)
                    for name in (position, "prepositive")
                )
                if position != "prevocalic" or row != other:
                    rows.append((_name(case), row))
            yield Table(f"{_name(position)}, {_name(number)}", GENDERS, rows)


def _list_verb_tables(cells: _Cells) -> Iterator[Table]:
    for mood in MOODS:
        tenses: dict[tuple[str, ...], list[str]] = {}  # by their forms; equal ones are one
        for tense in TENSES:
            forms = tuple(cells[tense, mood, person] for person in PERSONS)
            tenses.setdefault(forms, []).append(tense)
        rows = []
        for forms, names in tenses.items():
            for number, half in (("singular", forms[:3]), ("plural", forms[3:])):
                rows.append((f"{', '.join(names)} {number}", half))
        yield Table(mood, [*map(_name, "123")], rows)
        others = [(f"{tense} {mood}", (cells[tense, mood, NO_PERSON],)) for tense in TENSES]
        yield Table("", [""], others)


def _compact(table: Table) -> Table:
    """Leave out empty rows and columns, and merge neighbours that are equal."""
    rows = _merge_equal(table.rows)
    if not rows:
        return table._replace(rows=())
    columns = zip(*(cells for _, cells in rows), strict=True)
    merged = _merge_equal(zip(table.columns, columns, strict=True))
    cells = zip(*(column for _, column in merged), strict=True)
    names = [name for name, _ in rows]
    return Table(table.title, [name for name, _ in merged], [*zip(names, cells, strict=True)])


def _merge_equal(rows: Iterable[_Row]) -> list[_Row]:
    merged: list[_Row] = []
    for name, cells in rows:
        if merged and merged[-1][1] == cells:
            merged[-1] = (f"{merged[-1][0]}, {name}", cells)
        elif {*cells} != {_MISSING}:
            merged.append((name, cells))
    return merged


def _format_tables(tables: Sequence[Table]) -> Iterator[str]:
    """Yield each table as text; the names of all rows have the same width."""
    width = max(len(name) for table in tables for name, _ in table.rows)
    for table in tables:
        lines = [("", table.columns), *table.rows]
        names = [name.ljust(width) for name, _ in lines]
        columns = zip(*(cells for _, cells in lines), strict=True)
        padded = [[cell.ljust(max(map(len, column))) for cell in column] for column in columns]
        texts = [text for block in _split_columns(names, padded) for text in block]
        yield "\n".join(filter(None, [table.title, *texts]))


def _split_columns(names: Sequence[str], columns: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """Yield the lines of a table; one that is too wide continues below with its other columns."""
    block = [names]
    for column in columns:
        if len(block) > 1 and sum(len(c[0]) + len(_GAP) for c in [*block, column]) > _MAX_WIDTH:
            yield _join_columns(block)
            block = [names]
        block.append(column)
    yield _join_columns(block)


def _join_columns(columns: Sequence[Sequence[str]]) -> list[str]:
    return [_GAP.join(row).rstrip() for row in zip(*columns, strict=True)]
