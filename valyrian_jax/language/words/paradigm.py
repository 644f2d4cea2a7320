"""The paradigm of a word, as a table for people and as a record for programs."""

import textwrap
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from valyrian_jax.errors import UserError
from valyrian_jax.language.words.analysis import analyze
from valyrian_jax.language.words.lexicon import ADJECTIVAL_POS, NOMINAL_POS, Lexeme, load_lexicon
from valyrian_jax.language.words.morphology import (
    CASES,
    GENDERS,
    MOODS,
    NO_PERSON,
    NUMBERS,
    PERSONS,
    POSITIONS,
    TENSES,
    Form,
    MarkedForm,
    is_attested,
    list_forms,
    list_paradigms,
)
from valyrian_jax.language.words.spelling import suggest

Row = tuple[str, Sequence[str]]
_Cells = defaultdict[tuple[str, ...], str]
_MISSING = "—"
_MAX_WIDTH, _GAP = 80, 2  # columns of the terminal: of a table, and between two of its columns


def find_lexemes(lemma: str) -> list[Lexeme]:
    """Find all words with this dictionary form.

    Raises:
        UserError: There is no such word.
    """
    lexemes = [lexeme for lexeme in load_lexicon() if lexeme.lemma == lemma]
    if not lexemes:
        similar = (reading.lexeme.lemma for form in suggest(lemma) for reading in analyze(form))
        raise UserError(
            f"{lemma!r} is not a dictionary form in the lexicon; "
            f"similar words: {', '.join(dict.fromkeys(similar)) or 'none'}"
        )
    return lexemes


def format_paradigm(lexeme: Lexeme) -> str:
    """Format all forms of a word as a table under a line that describes the word.

    The sign ° marks a form inferred by analogy; — marks a form that is not established.
    """
    classes = {p.name: None for p in list_paradigms(lexeme) if p.mark != "†"}
    paradigm = " or ".join(name for name in classes if name and name[0] != "=")
    paradigm = paradigm and f"class {paradigm}"
    description = lexeme.lemma, lexeme.pos, paradigm, lexeme.gender, lexeme.gloss
    lines = [textwrap.fill(", ".join(filter(None, description)), _MAX_WIDTH)]
    if lexeme.pos in NOMINAL_POS:
        lines += _format_table(NUMBERS, _noun_rows(_format_cells(lexeme)))
    elif lexeme.pos in ADJECTIVAL_POS:
        lines += _format_table(CASES, _adjective_rows(_format_cells(lexeme)))
    elif lexeme.pos == "verb":
        lines += _format_table([*PERSONS, NO_PERSON], _verb_rows(_format_cells(lexeme)))
    else:
        lines.append("does not change")
    return "\n".join(lines)


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
            yield dict(zip(names, features, strict=True)), Form(form.text, is_attested(form.mark))


def _group_forms(lexeme: Lexeme) -> dict[tuple[str, ...], list[MarkedForm]]:
    """Group the forms of a word by their features, without those that the sources replace."""
    groups: dict[tuple[str, ...], list[MarkedForm]] = {}
    for form in list_forms(lexeme):
        if form.mark != "†":
            groups.setdefault(form.features, []).append(form)
    return groups


def _noun_rows(cells: _Cells) -> Iterator[Row]:
    for case in CASES:
        yield case, [cells[case, number] for number in NUMBERS]


def _adjective_rows(cells: _Cells) -> Iterator[Row]:
    for position, gender, number in product(POSITIONS, GENDERS, ("sg", "pl")):
        row = [cells[position, gender, number, case] for case in CASES]
        yield f"{position} {gender} {number}", row


def _verb_rows(cells: _Cells) -> Iterator[Row]:
    for mood, tense in product(MOODS, TENSES):
        row = [cells[tense, mood, person] for person in (*PERSONS, NO_PERSON)]
        if any(cell != _MISSING for cell in row):
            yield f"{mood} {tense}", row


def _format_cells(lexeme: Lexeme) -> _Cells:
    """Map the features of a form to its text, with ° for inferred forms and — for missing ones."""
    return defaultdict(
        lambda: _MISSING,
        {
            features: "/".join(form.text + "°" * (not is_attested(form.mark)) for form in forms)
            for features, forms in _group_forms(lexeme).items()
        },
    )


def _format_table(columns: Sequence[str], rows: Iterator[Row]) -> list[str]:
    """Format a table; one that is too wide continues below, in blocks of columns."""
    cells = [["", *columns]]
    cells += [[name, *row] for name, row in rows]
    padded = [
        [cell.ljust(max(map(len, column))) for cell in column]
        for column in zip(*cells, strict=True)
    ]
    blocks = [[padded[0]]]
    for column in padded[1:]:
        if sum(len(other[0]) + _GAP for other in blocks[-1]) + len(column[0]) > _MAX_WIDTH:
            blocks.append([padded[0]])
        blocks[-1].append(column)
    lines: list[str] = []
    for block in blocks:
        lines += [""] * bool(lines)
        lines += [(" " * _GAP).join(row).rstrip() for row in zip(*block, strict=True)]
    return lines
