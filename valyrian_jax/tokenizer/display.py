"""Tokens to be seen: each in its colour or, where colours are off, with a mark between them.

Colours are off where the output is no terminal, where TERM says that it has none, and where NO_COLOR is set.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import cycle

import click
from rich.console import Console

from valyrian_jax.tokenizer import Tokenizer

MARK = "|"
# Dark on light and light on dark: told apart by lightness alone, and on any background.
_COLOURS = (
    partial(click.style, fg="black", bg="yellow"),
    partial(click.style, fg="bright_white", bg="blue"),
)


def print_tokens(tokens: Iterable[bytes]) -> None:
    """Print tokens as they come, then end the line."""
    console = Console()
    coloured = console.is_terminal and console.color_system is not None and not console.no_color
    mark, styles = ("", _COLOURS) if coloured else (MARK, (str,))
    for piece in separate_tokens(tokens, mark, styles):
        click.echo(piece, nl=False, color=True)
    click.echo()


def separate_tokens(
    tokens: Iterable[bytes], mark: str, styles: Sequence[Callable[[str], str]]
) -> Iterator[str]:
    """What to print for every token: a mark between it and the one before, and the styles taking turns.

    A token that ends a line of the text ends one here too.
    """
    before = ""
    for token, style in zip(tokens, cycle(styles), strict=False):
        yield before + style(make_visible(token))
        before = "\n" * token.endswith(b"\n") + mark


def make_visible(token: bytes) -> str:
    r"""A token as characters that can be seen.

    A control character, a part of a character and all else that cannot be seen stands there as its bytes, as Python
    writes them: `\n`, `\x1b`, `\xc4`. So does a backslash: `\\`.
    """
    letters = token.decode("utf-8", "surrogateescape")
    return "".join(
        letter
        if letter.isprintable() and letter != "\\"
        else str(letter.encode("utf-8", "surrogateescape"))[2:-1]
        for letter in letters
    )


def token_text(token: bytes) -> str:
    r"""A token for a script: its characters as they are, and `\xc4`, say, for a part of one."""
    return token.decode("utf-8", "backslashreplace")


def token_label(tokenizer: Tokenizer, token: int) -> str:
    """A token as a name in a picture, where a space would be lost."""
    if token == tokenizer.end_of_text:
        return "<|endoftext|>"
    return make_visible(tokenizer.decode_bytes([token])).replace(" ", "␣")
