"""Tables: on a terminal as wide as it is, elsewhere as wide as they need."""

from rich import box
from rich.console import Console
from rich.table import Table

_UNBOUNDED = 10_000  # columns: rich would take an output that is no terminal for one of 80


def new(*columns: str) -> Table:
    """A table without rows; more columns may be added behind these."""
    return Table(*columns, box=box.SIMPLE_HEAD, header_style="none")


def echo(table: Table) -> None:
    """Print a table; where the output is no terminal, each of its rows on one line."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _UNBOUNDED
    console.print(table)
