"""Verdicts, readings and reports as lines to print."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from valyrian_jax.errors import UserError
from valyrian_jax.language import check
from valyrian_jax.language.words.analysis import Reading, nearest, readings
from valyrian_jax.language.words.nfc import nfc

if TYPE_CHECKING:  # evaluation imports JAX, which the checker does not need
    from valyrian_jax.evaluation.report import ReportRow

_SHOWN, _WORD_SHOWN = (
    300,
    40,
)  # characters of a sentence, and of a word, that are printed for people
_FIELDS = ("case", "number", "gender", "person", "tense", "mood", "position")
_MEASURES = (
    "nats/token",
    "bits/byte",
    "above source",
    "sentences",
    "grammatical",
    "known words",
    "new",
    "distinct",
)


def format_verdicts(encoded: bytes, as_json: bool) -> Iterator[str]:
    """One line a sentence: its verdict; at the end, without JSON, how many are grammatical.

    Raises:
        UserError: the text is not UTF-8 or has no sentence.
    """
    try:
        text = encoded.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"the text is not UTF-8: byte 0x{error.object[error.start]:02x} at offset {error.start}; convert it first"
        ) from error
    verdicts = check(text)
    if not verdicts:
        raise UserError("the text has no sentence to check; expected words")
    for verdict in verdicts:
        record = {
            "text": verdict.text,
            "grammatical": verdict.grammatical,
            "reason": verdict.reason,
        }
        text_shown = _shown(verdict.text, _SHOWN)
        shown = (
            f"right  {text_shown}"
            if verdict.grammatical
            else f"wrong  {text_shown}\n       {verdict.reason}"
        )
        yield json.dumps(record, ensure_ascii=False) if as_json else shown
    if not as_json:
        right = sum(verdict.grammatical for verdict in verdicts)
        yield f"{right} of {len(verdicts)} sentences are grammatical"
        if text != nfc(text):
            yield "note: the text has letters and accents apart (not NFC); it was checked as if they were one"


def _shown(text: str, length: int) -> str:
    """The beginning of a text, with a sign for what would move the cursor or end the line."""
    shown = text if len(text) <= length else text[:length] + "…"
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in shown
    )


def format_readings(words: Sequence[str], as_json: bool) -> Iterator[str]:
    """What each word can be: one JSON object a word, or lines for people.

    Raises:
        UserError: no word is given, or (without JSON) one is not known.
    """
    if not words:
        raise UserError("no word is given; name one or more after --word")
    for given in words:
        word = nfc(given)
        found = readings(word) or readings(word[:1].lower() + word[1:])
        if as_json:
            yield json.dumps(
                {"word": word, "readings": [_record(reading) for reading in found]},
                ensure_ascii=False,
            )
        elif not found:
            alike = ", ".join(nearest(word))
            raise UserError(
                f"{_shown(word, _WORD_SHOWN)!r} is not a known word"
                + f"; the nearest are {alike}" * bool(alike)
            )
        else:
            yield word
            for reading in found:
                features = " ".join(
                    value for name, value in _record(reading).items() if name in _FIELDS
                )
                marks = " (and)" * reading.joined + " (inferred)" * (not reading.sure)
                yield f"  {reading.lexeme.lemma} ({reading.lexeme.gloss}): {features or reading.lexeme.pos}{marks}"


def _record(reading: Reading) -> dict[str, Any]:
    features = {name: getattr(reading, name) for name in _FIELDS if getattr(reading, name)}
    flags = {"joined": True} if reading.joined else {}
    lexeme = reading.lexeme
    return {
        "lemma": lexeme.lemma,
        "pos": lexeme.pos,
        "gloss": lexeme.gloss,
        **features,
        "sure": reading.sure,
        **flags,
    }


def report_json(run: Path, lines: "Mapping[str, ReportRow]") -> str:
    """The report of a run as one JSON object."""
    record = {
        name: {**line._asdict(), "quality": line.quality._asdict() if line.quality else None}
        for name, line in lines.items()
    }
    first = lines["model"]
    losses = {"nats_per_token": first.nats_per_token, "bits_per_byte": first.bits_per_byte}
    return json.dumps({"run": str(run), **losses, **record})


def report_table(lines: "Mapping[str, ReportRow]") -> Table:
    """The report of a run as a table with a column for each line, so narrow that it fits into any terminal."""
    shown = new_table("")
    for name in lines:
        shown.add_column(name, justify="right")
    for measure, *cells in zip(_MEASURES, *map(_cells, lines.values()), strict=True):
        if any(cells):
            shown.add_row(measure, *cells)
    return shown


def _cells(line: "ReportRow") -> list[str]:
    """The numbers that `_MEASURES` names; empty where one does not apply."""
    losses = line.nats_per_token, line.bits_per_byte, line.above_source
    cells = ["" if loss is None else f"{loss:.4f}" for loss in losses]
    q = line.quality
    if q is None:
        return cells + [""] * (len(_MEASURES) - len(cells))
    shares = q.grammatical, q.known_words, q.new, q.distinct
    return [*cells, f"{q.sentences:,}", *(f"{share:.1%}" for share in shares)]


_UNBOUNDED = 10_000  # columns: rich would take an output that is no terminal for one of 80


def new_table(*columns: str) -> Table:
    """A table without rows; more columns may be added behind these."""
    return Table(*columns, box=box.SIMPLE_HEAD, header_style="none")


def print_table(table: Table) -> None:
    """Print a table; where the output is no terminal, each of its rows on one line."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _UNBOUNDED
    console.print(table)
