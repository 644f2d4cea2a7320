"""Compare this project with other libraries; all competitors take turns.

python tests/bench/run.py [tokenizer|encode|train|generate|startup|all]

It needs the extra [bench]. Before it times a task, it checks that all competitors do the same work:
the same ids, merges and losses.
"""

import importlib
import itertools
from pathlib import Path

import click
import measuring

MODULES = {
    "tokenizer": "tokenizing",
    "encode": "encoding",
    "train": "training",
    "generate": "generating",
    "startup": "starting",
}


@click.command()
@click.argument("section", type=click.Choice([*MODULES, "all"]), default="all")
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Measurements per competitor.",
)
@click.option(
    "--json", "path", type=click.Path(path_type=Path), help="File to write the figures to."
)
def main(section: str, rounds: int, path: Path | None) -> None:
    """Measure, and print a table."""
    names = [name for key, name in MODULES.items() if section in (key, "all")]
    modules = [importlib.import_module(name) for name in names]
    rows = []
    for row in itertools.chain.from_iterable(module.measure(rounds) for module in modules):
        click.echo(f"measured: {row.title}", err=True)
        rows.append(row)
    measuring.print_rows(rows)
    if path:
        measuring.write_rows(rows, path)


if __name__ == "__main__":
    main()
