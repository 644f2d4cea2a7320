"""Options that several commands share: a decorator each."""

import sys
from collections.abc import Callable
from pathlib import Path

import click

from valyrian_jax.tokenizer.display import TOKEN_SEPARATOR

Callback = Callable[..., None]
Decorator = Callable[[Callback], Callback]

PATH = click.Path(path_type=Path)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON: one object per line."
)
text_key_option = click.option(
    "--text-key",
    metavar="KEY",
    default="text",
    show_default=True,
    help="Key of the text in JSON, or its column in Parquet; empty: read JSON as plain text.",
)


show_tokens_option = click.option(
    "--show-tokens",
    is_flag=True,
    help="Show the tokens, in two alternating colours. Where the output has no colours, "
    rf"{TOKEN_SEPARATOR} separates them. Bytes that cannot be printed appear as escapes like \xc4.",
)


def print_on_terminal(note: str) -> None:
    """Print a note on standard error for a person who waits, and nothing in a pipeline."""
    if sys.stderr is not None and sys.stderr.isatty():
        click.echo(note, err=True)


def decode_argument(argument: str) -> str:
    """Return an argument as valid Unicode; bytes that are not UTF-8 become U+FFFD."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
