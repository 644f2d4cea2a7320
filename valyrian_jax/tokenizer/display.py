"""Tokens on a terminal or in a figure: colours or separators mark where each one ends.

There are no colours if the output is not a terminal, if TERM names a terminal without colours, or
if NO_COLOR is set.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import cycle

import click
from rich.console import Console

from valyrian_jax.tokenizer import END_OF_TEXT, Tokenizer

TOKEN_SEPARATOR = "|"
# Dark on light and light on dark: lightness alone separates them, on any background.
_COLOURS = (
    partial(click.style, fg="black", bg="yellow"),
    partial(click.style, fg="bright_white", bg="blue"),
)


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


def token_label(tokenizer: Tokenizer, token: int) -> str:
    """Return a token as a label in a figure, with a visible sign for a space."""
    if token == tokenizer.end_of_text:
        return END_OF_TEXT
    return make_visible(tokenizer.decode_bytes([token])).replace(" ", "␣")
