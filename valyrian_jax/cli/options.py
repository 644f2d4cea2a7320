"""Options that several commands share: a decorator each."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from valyrian_jax.files import localize, refuse_url
from valyrian_jax.tokenizer.display import TOKEN_SEPARATOR

Callback = Callable[..., None]
Decorator = Callable[[Callback], Callback]


class LocalPath(click.Path):
    """A path on this machine; a URL is refused, because `Path` would drop one of its slashes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        refuse_url(value, f"{param.human_readable_name if param else 'a path'}")
        return super().convert(value, param, ctx)


class InputPath(click.Path):
    """A file or directory to read: a path, or a URL whose local copy is read."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path of the file or of the copy."""
        is_completion = ctx is not None and ctx.resilient_parsing
        return super().convert(value if is_completion else localize(value), param, ctx)


PATH = LocalPath(path_type=Path)
INPUT = InputPath(path_type=Path)
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
    """Print a note for a person who waits, if standard error is a terminal."""
    if sys.stderr is not None and sys.stderr.isatty():
        click.echo(note, err=True)


def decode_argument(argument: str) -> str:
    """Return an argument as valid Unicode; bytes that are not UTF-8 become U+FFFD."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
