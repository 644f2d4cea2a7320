"""The tables of `eval --excess`: what a model has left to learn, and where."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from valyrian_jax.bundle.shipped_model import name_model
from valyrian_jax.cli.tables import new_table, print_table
from valyrian_jax.errors import escape

if TYPE_CHECKING:
    from valyrian_jax.evaluation.excess_report import ExcessReport, Group

TEXTS = 1000
_SHOWN = 10
_DIVISIONS = {
    "template": "sentence template",
    "length": "length of the sentence",
    "training text": "the training text",
}


def evaluate_excess(run: Path, texts: int, as_json: bool) -> None:
    """Print what the best weights of a run or bundle have left to learn."""
    from valyrian_jax.evaluation.excess_report import make_excess_report

    report = make_excess_report(run, texts)
    if as_json:
        for record in make_records(report):
            click.echo(json.dumps({"run": name_model(run), **record}, ensure_ascii=False))
        return
    click.echo(escape(name_model(run)))
    print_excess(report)


def print_excess(report: "ExcessReport") -> None:
    """Print the total, then its divisions, the token classes and the calibration."""
    excess = report.excess
    sentences = sum(part.derivation is not None for part in excess.parts)
    table = new_table(f"{report.texts:,} new texts, {sentences:,} sentences")
    for column in ("nats", "bits/byte"):
        table.add_column(column, justify="right")
    rows = {
        "model": excess.model,
        "source, along the derivations": excess.source,
        "excess": excess.model - excess.source,
    }
    for name, nats in rows.items():
        table.add_row(name, f"{nats:,.1f}", f"{nats / math.log(2) / excess.bytes:.4f}")
    print_table(table)
    for division, groups in report.divisions.items():
        _print_groups(_DIVISIONS[division], groups, report)
    _print_groups("construction", report.constructions, report)
    click.echo(
        click.wrap_text(
            "A sentence counts for each construction that it has. By class of tokens, only the "
            "model's own nats are known, not those of the source:",
            80,
        )
    )
    _print_token_classes(report)
    _print_calibration(report)


def _print_groups(name: str, groups: "Sequence[Group]", report: "ExcessReport") -> None:
    """Print the groups that cost most; if others are left out, also their costliest sentences."""
    total, shown = report.excess.model - report.excess.source, groups[:_SHOWN]
    table = new_table(name)
    for column in ("sentences", "nats", "share %", "nats each"):
        table.add_column(column, justify="right")
    for group in shown:
        table.add_row(
            escape(group.name),
            f"{group.sentences:,}",
            f"{group.excess:,.1f}",
            f"{100 * group.excess / total:.1f}",
            f"{group.excess / group.sentences:.2f}",
        )
    print_table(table)
    if len(shown) < len(groups):
        click.echo(f"{len(groups) - len(shown)} others cost less. The costliest sentences:")
        for group in shown:
            click.echo(f"  {escape(group.name)}: {' / '.join(group.examples)}")
        click.echo()


def _print_token_classes(report: "ExcessReport") -> None:
    from valyrian_jax.evaluation.token_classes import TOKEN_CLASSES

    table = new_table("token")
    for column in ("tokens", "nats each", "share %"):
        table.add_column(column, justify="right")
    for name, (count, nats) in report.excess.token_classes.items():
        label = f"{name}: {TOKEN_CLASSES[name]}"
        share = 100 * nats / report.excess.model
        table.add_row(label, f"{count:,}", f"{nats / count:.3f}", f"{share:.1f}")
    print_table(table)


def _print_calibration(report: "ExcessReport") -> None:
    table = new_table("what follows")
    for column in ("predicted %", "observed %", "calibration error %"):
        table.add_column(column, justify="right")
    for row in report.calibration:
        values = (f"{100 * value:.2f}" for value in row[1:])
        table.add_row(escape(row.name), *values)
    print_table(table)


def make_records(report: "ExcessReport") -> list[dict[str, Any]]:
    """Return the total and every row of every table, for JSON."""
    excess = report.excess
    records: list[dict[str, Any]] = [
        {
            "division": "all",
            "texts": report.texts,
            "bytes": excess.bytes,
            "model_nats": excess.model,
            "source_nats": excess.source,
            "excess_nats": excess.model - excess.source,
        }
    ]
    for division, groups in {**report.divisions, "construction": report.constructions}.items():
        for group in groups:
            record = group._asdict()
            record["excess_nats"] = record.pop("excess")
            records.append({"division": division, **record})
    for name, (count, nats) in excess.token_classes.items():
        records.append(
            {"division": "token class", "name": name, "tokens": count, "model_nats": nats}
        )
    records += [{"division": "calibration", **row._asdict()} for row in report.calibration]
    return records
