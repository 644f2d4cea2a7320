"""Commands for minimal pairs: make them, and test a model on them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from valyrian_jax.bundle.shipped_model import name_model
from valyrian_jax.cli.options import Decorator, json_option
from valyrian_jax.cli.run_options import run_argument
from valyrian_jax.cli.tables import new_table, print_table
from valyrian_jax.errors import escape
from valyrian_jax.language.pairs.rules import RULES

if TYPE_CHECKING:
    from valyrian_jax.evaluation.pair_report import PairReport, PairRow

COUNT, TEXTS = 200, 300  # pairs for each rule and texts of the model, for `eval --pairs`
_SHOWN_FAILURES = 5


def rules_option(text: str) -> Decorator:
    """Return the option --rule, which a command takes several times, with its help text."""
    return click.option(
        "--rule",
        "rules",
        multiple=True,
        type=click.Choice([*RULES]),
        metavar="RULE",
        show_default="all",
        help=text,
    )


@click.command(epilog="Example: python -m valyrian_jax pairs --rule verb-number --count 5")
@run_argument
@rules_option("Rule to break; can be repeated.")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Number of pairs for each rule.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed; the same one gives the same pairs.",
)
@json_option
def pairs(run: Path, rules: tuple[str, ...], count: int, seed: int, as_json: bool) -> None:
    """Make minimal pairs: a right sentence, and the same with one form wrong.

    The sentences are new to the model of RUN, and both have the same number of its tokens, where
    the rule allows it. RUN is a run or bundle directory, or `shipped`; the default is the newest
    run under runs/, or the model that ships.

    The output without --rule lists all rules. `eval --pairs` tests a model on such pairs.
    """
    from valyrian_jax.evaluation.pair_report import make_run_pairs

    run_pairs = make_run_pairs(run, rules or [*RULES], count, seed)
    if as_json:
        for pair, unseen in zip(run_pairs.pairs, run_pairs.unseen, strict=True):
            record = pair._asdict() | {"unseen": unseen, "verdict": RULES[pair.rule].verdict}
            click.echo(json.dumps(record, ensure_ascii=False))
        return
    for rule in rules or RULES:
        rule_pairs = [pair for pair in run_pairs.pairs if pair.rule == rule]
        click.echo(f"{rule}: {RULES[rule].description}")
        for pair in rule_pairs:
            notes = [f"governor {pair.governor}, distance {pair.distance}"] * bool(pair.governor)
            notes += [f"attractor {pair.attractor}"] * bool(pair.attractor)
            click.echo(f"  right  {pair.texts[0]}\n  wrong  {pair.texts[1]}")
            click.echo(f"         {'; '.join(notes)}\n" if notes else "")
        if len(rule_pairs) < count:
            click.echo(f"  {len(rule_pairs)} of {count} pairs: few sentences can break this rule\n")


def evaluate_on_pairs(run: Path, count: int, texts: int, as_json: bool) -> None:
    """Print the accuracy of the best weights of a run or bundle on minimal pairs."""
    from valyrian_jax.evaluation.pair_report import make_pair_report

    report = make_pair_report(run, count, 0, texts)
    if as_json:
        for row in report.rows:
            click.echo(json.dumps({"run": name_model(run), **make_record(row)}))
        return
    click.echo(escape(name_model(run)))
    print_report(report)


def print_report(report: "PairReport") -> None:
    """Print the accuracy by rule, then by what makes pairs hard, and some pairs that failed."""
    by_rule = [row for row in report.rows if row.group == "all" and row.rule != "all"]
    by_group = [row for row in report.rows if row.rule == "all"]
    click.echo("Pairs in which the right sentence is the more probable one; chance is 50%.")
    _print_rows("rule", [(row.rule, row) for row in by_rule])
    _print_rows("pairs of all rules", [(row.group, row) for row in by_group])
    if report.failed:
        click.echo("The clearest failures, right sentence first:")
    for pair in report.failed[:_SHOWN_FAILURES]:
        click.echo(f"  {pair.rule}: {pair.texts[0]} / {pair.wrong}")
    if report.too_long:
        click.echo(f"{report.too_long} pairs are longer than the context, and were left out.")


def _print_rows(name: str, rows: "list[tuple[str, PairRow]]") -> None:
    table = new_table(name)
    for column in ("pairs", "model %", "95%", "trigram %", "equal length"):
        table.add_column(column, justify="right")
    for label, row in rows:
        low, high = (100 * bound for bound in row.model.interval)
        table.add_row(
            label,
            str(row.model.pairs),
            f"{100 * row.model.share:.1f}",
            f"{low:.1f}-{high:.1f}",
            "" if row.trigram is None else f"{100 * row.trigram.share:.1f}",
            str(row.equal_length),
        )
    print_table(table)


def make_record(row: "PairRow") -> dict[str, Any]:
    """Return a row of the report for JSON."""
    from valyrian_jax.evaluation.pairs import CHANCE

    low, high = row.model.interval
    return {
        "rule": row.rule,
        "group": row.group,
        "pairs": row.model.pairs,
        "right": row.model.right,
        "accuracy": row.model.share,
        "low": low,
        "high": high,
        "trigram": None if row.trigram is None else row.trigram.share,
        "chance": CHANCE,
        "equal_length": row.equal_length,
    }
