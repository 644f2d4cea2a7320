"""The paradigm of a word, as a table for people and as a record for programs."""

import textwrap
from collections.abc import Iterator, Sequence
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
    conjugate,
    decline,
    inflect_adjective,
)
from valyrian_jax.language.words.spelling import suggest

Row = tuple[str, Sequence[Form | None]]
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
    paradigm = lexeme.paradigm and f"class {lexeme.paradigm}"
    description = lexeme.lemma, lexeme.pos, paradigm, lexeme.gender, lexeme.gloss
    lines = [textwrap.fill(", ".join(filter(None, description)), _MAX_WIDTH)]
    if lexeme.pos in NOMINAL_POS:
        lines += _format_table(NUMBERS, _noun_rows(lexeme))
    elif lexeme.pos in ADJECTIVAL_POS:
        lines += _format_table(CASES, _adjective_rows(lexeme))
    elif lexeme.pos == "verb":
        lines += _format_table([*PERSONS, NO_PERSON], _verb_rows(lexeme))
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
    if lexeme.pos in NOMINAL_POS:
        for (case, number), form in decline(lexeme).items():
            yield {"case": case, "number": number}, form
    elif lexeme.pos in ADJECTIVAL_POS:
        for position in POSITIONS:
            for (gender, number, case), form in inflect_adjective(lexeme, position).items():
                yield {"position": position, "gender": gender, "number": number, "case": case}, form
    elif lexeme.pos == "verb":
        for (tense, mood, person), form in conjugate(lexeme).items():
            yield {"mood": mood, "tense": tense, "person": person}, form
    else:
        yield {}, Form(lexeme.lemma, True)


def _noun_rows(lexeme: Lexeme) -> Iterator[Row]:
    forms = decline(lexeme)
    for case in CASES:
        yield case, [forms.get((case, number)) for number in NUMBERS]


def _adjective_rows(lexeme: Lexeme) -> Iterator[Row]:
    for position in POSITIONS:
        forms = inflect_adjective(lexeme, position)
        for gender in GENDERS:
            for number in ("sg", "pl"):
                row = [forms.get((gender, number, case)) for case in CASES]
                yield f"{position} {gender} {number}", row


def _verb_rows(lexeme: Lexeme) -> Iterator[Row]:
    forms = conjugate(lexeme)
    for mood in MOODS:
        for tense in TENSES:
            row = [forms.get((tense, mood, person)) for person in (*PERSONS, NO_PERSON)]
            if any(row):
                yield f"{mood} {tense}", row


def _format_table(columns: Sequence[str], rows: Iterator[Row]) -> list[str]:
    """Format a table; one that is too wide continues below, in blocks of columns."""
    cells = [["", *columns]]
    cells += [[name, *map(_format_cell, row)] for name, row in rows]
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


def _format_cell(form: Form | None) -> str:
    return "—" if form is None else form.text + "°" * (not form.attested)
