"""The table of a word's forms, as a grammar book prints it: ° = inferred by analogy, — = not established."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from valyrian_jax.errors import UserError
from valyrian_jax.language.words.analysis import nearest, readings
from valyrian_jax.language.words.lexicon import Lexeme, load_lexicon
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

NOMINAL, ADJECTIVAL = ("noun", "name", "pron"), ("adj", "det", "num")
Row = tuple[str, Sequence[Form | None]]


def find_lexemes(lemma: str) -> list[Lexeme]:
    """All words with this dictionary form.

    Raises:
        UserError: there is no such word.
    """
    found = [lexeme for lexeme in load_lexicon() if lexeme.lemma == lemma]
    if not found:
        lemmas = dict.fromkeys(
            reading.lexeme.lemma for form in nearest(lemma) for reading in readings(form)
        )
        alike = ", ".join(lemmas) or "none"
        raise UserError(
            f"{lemma!r} is not a dictionary form in the lexicon; words like it: {alike}"
        )
    return found


def format_paradigm(lexeme: Lexeme) -> str:
    """The forms of one word in lines and columns, under a line that says what it is."""
    parts = [
        lexeme.lemma,
        lexeme.pos,
        lexeme.paradigm and f"class {lexeme.paradigm}",
        lexeme.gender,
        lexeme.gloss,
    ]
    lines = [", ".join(part for part in parts if part)]
    if lexeme.pos in NOMINAL:
        lines += _table(NUMBERS, _noun_rows(lexeme))
    elif lexeme.pos in ADJECTIVAL:
        lines += _table(CASES, _adjective_rows(lexeme))
    elif lexeme.pos == "verb":
        lines += _table([*PERSONS, NO_PERSON], _verb_rows(lexeme))
    else:
        lines.append("does not change")
    return "\n".join(lines)


def paradigm_record(lexeme: Lexeme) -> dict[str, Any]:
    """A word with its forms, each with its features, its text, and whether a source gives it.

    A form that is not established is absent; a word that does not change has one, without features.
    """
    kind = {
        "lemma": lexeme.lemma,
        "pos": lexeme.pos,
        "class": lexeme.paradigm,
        "gender": lexeme.gender,
    }
    forms = [{**features, **form._asdict()} for features, form in _forms(lexeme)]
    return {**kind, "gloss": lexeme.gloss, "forms": forms}


def _forms(lexeme: Lexeme) -> Iterator[tuple[dict[str, str], Form]]:
    if lexeme.pos in NOMINAL:
        for (case, number), form in decline(lexeme).items():
            yield {"case": case, "number": number}, form
    elif lexeme.pos in ADJECTIVAL:
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
                yield (
                    f"{position} {gender} {number}",
                    [forms.get((gender, number, case)) for case in CASES],
                )


def _verb_rows(lexeme: Lexeme) -> Iterator[Row]:
    forms = conjugate(lexeme)
    for mood in MOODS:
        for tense in TENSES:
            if any((tense, mood, person) in forms for person in (*PERSONS, NO_PERSON)):
                yield f"{mood} {tense}", _verb_row(forms, tense, mood)


def _verb_row(
    forms: Mapping[tuple[str, str, str], Form], tense: str, mood: str
) -> list[Form | None]:
    return [forms.get((tense, mood, person)) for person in (*PERSONS, NO_PERSON)]


def _table(columns: Sequence[str], rows: Iterator[Row]) -> list[str]:
    """Rows of equal cells, aligned by characters."""
    cells = [["", *columns]]
    cells += [[name, *map(_cell, row)] for name, row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def _cell(form: Form | None) -> str:
    return "—" if form is None else form.text + "°" * (not form.sure)
