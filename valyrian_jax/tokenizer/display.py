"""Text, tokens, counts and sizes as people see them.

All text on a terminal goes through `print_text`, so that no text can drive the terminal. Colours or
separators mark where each token ends.

There are no colours if the output is not a terminal, if TERM names a terminal without colours, or
if NO_COLOR is set.
"""

import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

import click
from rich.cells import cell_len
from rich.console import Console

from valyrian_jax.errors import escape

if TYPE_CHECKING:
    from valyrian_jax.tokenizer import Tokenizer

TOKEN_SEPARATOR = "|"
# Dark on light and light on dark: lightness alone separates them, on any background.
_COLOURS = (
    partial(click.style, fg="black", bg="yellow"),
    partial(click.style, fg="bright_white", bg="blue"),
)
_PARTS = re.compile(r"\n|[^\S\n]+|\S+")
# Characters without a shape of their own that some scripts need.
_JOINERS = "\u200c\u200d"


def escape_controls(text: str, kept: str = "\n\t") -> str:
    r"""Return a text with an escape for every character that could drive or confuse a terminal.

    These are control characters (C0 and C1), those that change the direction of writing, and all
    others without a shape of their own, except spaces of any width.

    Args:
        text: The text.
        kept: Control characters to keep.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c in kept or c in _JOINERS or unicodedata.category(c) == "Zs" else escape(c)
        for c in text
    )


def print_text(text: str, end: str = "\n", to_stderr: bool = False) -> None:
    """Print a text: on a terminal with `escape_controls`, else exactly as it is."""
    stream = sys.stderr if to_stderr else sys.stdout
    if stream is not None and stream.isatty():
        text = escape_controls(text)
    # `color` keeps click from removing control characters.
    click.echo(text + end, nl=False, err=to_stderr, color=True)


def print_words(pieces: Iterable[str], indent: int = 0) -> None:
    """Print a text as its pieces arrive, then end the line.

    On a terminal no word is broken at its edge; elsewhere the text stays exactly as it is.

    Args:
        pieces: The text.
        indent: Columns that are left free on every line but the first.
    """
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    for text in wrap_words(pieces, Console().width, indent) if is_terminal else pieces:
        print_text(text, end="")
    print_text("")


def wrap_words(pieces: Iterable[str], width: int, indent: int = 0) -> Iterator[str]:
    """Yield a text with a line break in place of the space before a word that would not fit.

    The pieces of the text may be cut anywhere. A word is yielded when it is complete, or piece by
    piece if it is longer than a line, and is never broken. Every line but the first is indented,
    unless the text has its own indentation there.
    """
    column, space, margin = 0, "", ""
    for part in _split_words(pieces, width):
        start = column + cell_len(space)
        if part == "\n":
            yield part
            column, space, margin = 0, "", " " * indent
        elif part.isspace():
            space += part
        elif space and start > indent and start + cell_len(part) > width:
            yield f"\n{' ' * indent}{part}"
            column, space, margin = indent + cell_len(part), "", ""
        else:
            blank = space or margin
            yield blank + part
            column, space, margin = column + cell_len(blank + part), "", ""
    yield space


def _split_words(pieces: Iterable[str], longest: int) -> Iterator[str]:
    """Yield the line breaks, spaces and words of a text, each when it is complete."""
    rest = ""
    for piece in pieces:
        *parts, rest = _PARTS.findall(rest + piece) or [""]
        yield from parts
        if len(rest) > longest:
            yield rest
            rest = ""
    if rest:
        yield rest


def to_json(record: Mapping[str, Any]) -> str:
    r"""Return a record as JSON in one line, readable, and with control characters as `\uXXXX`."""
    text = json.dumps(record, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def count_noun(count: int, noun: str) -> str:
    """Return a count with its noun, which is plural unless the count is 1."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def format_size(size: int) -> str:
    """Return a number of bytes with three digits and a unit."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            digits = max(0, 3 - len(str(size // unit)))
            return f"{size / unit:,.{digits}f} {name}"
    return count_noun(size, "byte")


def print_tokens(tokens: Iterable[bytes]) -> None:
    """Print each token as it arrives, then end the line."""
    console = Console()
    has_colours = console.is_terminal and console.color_system is not None and not console.no_color
    separator, styles = ("", _COLOURS) if has_colours else (TOKEN_SEPARATOR, (str,))
    for text in separate_tokens(tokens, separator, styles):
        click.echo(text, nl=False, color=True)
    click.echo()


def separate_tokens(
    tokens: Iterable[bytes], separator: str, styles: Sequence[Callable[[str], str]]
) -> Iterator[str]:
    """Yield each token as printed text, with separators between tokens and alternating styles.

    A token that ends with a newline also ends the printed line.
    """
    prefix = ""
    for token, style in zip(tokens, cycle(styles), strict=False):
        yield prefix + style(make_visible(token))
        prefix = "\n" * token.endswith(b"\n") + separator


def make_visible(token: bytes) -> str:
    r"""Return a token as visible characters.

    Control characters, incomplete characters and everything else that cannot be seen become the
    escapes of Python's bytes: `\n`, `\x1b`, `\xc4`. A backslash becomes `\\`.
    """
    letters = token.decode("utf-8", "surrogateescape")
    return "".join(
        letter
        if letter.isprintable() and letter != "\\"
        else str(letter.encode("utf-8", "surrogateescape"))[2:-1]
        for letter in letters
    )


def token_text(token: bytes) -> str:
    r"""Return a token as text for programs; only incomplete characters are escaped, as `\xc4`."""
    return token.decode("utf-8", "backslashreplace")


def token_label(tokenizer: "Tokenizer", token: int) -> str:
    """Return a token as a label in a figure, with a visible sign for a space."""
    from valyrian_jax.tokenizer import END_OF_TEXT

    if token == tokenizer.end_of_text:
        return END_OF_TEXT
    return make_visible(tokenizer.decode_bytes([token])).replace(" ", "␣")
