"""Ours and the peers in turns, in one process tree: python tests/bench/run.py [tokenizer|train|generate|startup|all]

Needs the extra [bench]. What is timed is first held to be the same work: the same ids, merges, losses.
"""

import importlib
import itertools
from pathlib import Path

import click
import measuring

PARTS = {
    "tokenizer": "tokenizing",
    "train": "training",
    "generate": "generating",
    "startup": "starting",
}


@click.command()
@click.argument("part", type=click.Choice([*PARTS, "all"]), default="all")
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Turns each one gets.",
)
@click.option(
    "--json", "path", type=click.Path(path_type=Path), help="File to write the figures to."
)
def main(part: str, rounds: int, path: Path | None) -> None:
    """Measure, and print a table."""
    modules = [importlib.import_module(name) for key, name in PARTS.items() if part in (key, "all")]
    rows = []
    for row in itertools.chain.from_iterable(module.rows(rounds) for module in modules):
        click.echo(f"measured: {row.what}", err=True)
        rows.append(row)
    measuring.show(rows, path)


if __name__ == "__main__":
    main()
