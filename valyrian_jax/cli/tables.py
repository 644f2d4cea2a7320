"""Tables on the terminal, and the report of a run as a table or as JSON."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from valyrian_jax.tokenizer.display import to_json

if TYPE_CHECKING:  # Evaluation imports JAX, which the bridge's tables do not need.
    from valyrian_jax.evaluation.report import Report, ReportRow

_MAX_WIDTH = 10_000  # columns
_COMPARED = ("model", "trigram")
_MEASURES = (
    "nats/token",
    "bits/byte",
    "above source",
    "sentences",
    "grammatical",
    "with a mistake",
    "beyond the grammar",
    "known words",
    "new",
    "distinct",
)


def new_table(*columns: str) -> Table:
    """Return a table without rows; callers can add more columns."""
    return Table(*columns, box=box.SIMPLE_HEAD, header_style="none")


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal, or 80 columns without one.

    A cell that is too long is wrapped between words. A table whose words do not fit is wider if the
    output is not a terminal.
    """
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        unlimited = console.options.update(max_width=_MAX_WIDTH)
        console.width = max(80, Measurement.get(console, unlimited, table).minimum)
    with console.capture() as capture:  # Rich would end the process if the reader has left.
        console.print(table)
    click.echo(capture.get(), nl=False, color=True)


def report_json(run: Path, report: "Report") -> str:
    """Return the report of a run as one JSON object."""
    record: dict[str, Any] = {
        name: {**row._asdict(), "quality": row.quality._asdict() if row.quality else None}
        for name, row in report.rows.items()
    }
    if report.overlap:
        record |= {"trigram_unit": "tokens", "overlap": report.overlap._asdict()}
    if report.cut:
        record["cut"] = report.cut
    model = report.rows["model"]
    losses = {"nats_per_token": model.nats_per_token, "bits_per_byte": model.bits_per_byte}
    return to_json({"run": str(run), **losses, **record})


def report_table(rows: "Mapping[str, ReportRow]") -> Table:
    """Return the report of a run as a table.

    The table has one column for each row of the report, so it fits into a narrow terminal.
    """
    table = new_table("")
    for name in rows:
        table.add_column(name, justify="right")
    for measure, *cells in zip(_MEASURES, *map(_format_measures, rows.values()), strict=True):
        if any(cells):
            table.add_row(measure, *cells)
    return table


def describe_split(report: "Report") -> str:
    """Describe the baseline and the split of a report; empty if there is nothing to say."""
    facts = []
    if report.overlap:
        share, unit = report.overlap
        overlap = f"{share:.1%} of the held-out {unit} are also in the training part"
        facts += ["the trigram model is one of tokens", overlap]
    return "; ".join([*facts, report.cut] if report.cut else facts)


def advise_on_loss(rows: "Mapping[str, ReportRow]", overfitting: str = "") -> str:
    """Return advice in one line if the model overfits or is worse than the trigram model, else "".

    `overfitting` is the advice about overfitting, or "".
    """
    model, trigram = (rows[name].nats_per_token if name in rows else None for name in _COMPARED)
    if model is None or trigram is None or model <= trigram:
        return overfitting
    advice = overfitting or (
        "what usually helps: more steps (--train.steps), a larger model (--model.n_embd), or more "
        "text"
    )
    return (
        f"the model is worse than the trigram model: {model:.4f} nats/token against {trigram:.4f}; "
        f"{advice}"
    )


def _format_measures(row: "ReportRow") -> list[str]:
    """Format the values of `_MEASURES`; a measure that does not apply is empty."""
    losses = row.nats_per_token, row.bits_per_byte, row.above_source
    cells = ["" if loss is None else f"{loss:.4f}" for loss in losses]
    quality = row.quality
    if quality is None:
        return cells + [""] * (len(_MEASURES) - len(cells))
    shares = (
        quality.grammatical,
        quality.mistakes,
        quality.beyond,
        quality.known_words,
        quality.new,
        quality.distinct,
    )
    shown = ("" if share is None else f"{share:.1%}" for share in shares)
    return [*cells, f"{quality.sentences:,}", *shown]
