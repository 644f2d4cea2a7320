"""Mistakes in a command line: each is explained in one line, with what to write instead."""

import difflib
import re
import sys
from collections.abc import Mapping
from typing import Any

import click

from valyrian_jax.errors import quote_argument

_PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "valyrian": ("corpus", "eval", "language", "plot", "sample", "tokenizer", "train"),
    "valyrian-bridge": ("export", "generate", "import", "serve", "verify"),
}
"""The commands that only one of the programs has; neither program imports the other."""
_VALUES_WITHOUT_OPTION = ("--prompt", "--config", "--text")


def explain_usage_error(error: click.ClickException) -> str:
    """Return the message of an error of click, with what was expected and what to write."""
    command = error.cmd if isinstance(error, click.UsageError) else None
    if isinstance(error, click.BadParameter) and error.param:
        explained = _explain_number(error.message, error.param.type)
        return error.format_message().replace(error.message, explained)
    if isinstance(error, click.NoSuchCommand):
        for program, commands in _PROGRAMS.items():
            if error.command_name in commands:
                return f"{error.message} Use `{program} {error.command_name}`."
    if isinstance(error, click.NoSuchOption) and command:
        return f"{error.message} {_suggest_option(error.option_name, command)}".rstrip()
    return error.format_message() + (_suggest_value(error.message, command) if command else "")


def _suggest_value(message: str, command: click.Command) -> str:
    """Suggest an option for arguments that are too many, such as the words of a prompt."""
    extra = re.match(r"Got unexpected extra arguments? \((.*)\)", message, re.DOTALL)
    names = [name for name in _VALUES_WITHOUT_OPTION if name in _list_options(command)]
    return f"; did you mean {names[0]} {quote_argument(extra[1])}?" if extra and names else ""


def _list_options(command: click.Command) -> list[str]:
    options = (param for param in command.params if isinstance(param, click.Option))
    return [name for option in options for name in option.opts]


def _explain_number(message: str, kind: click.ParamType[Any]) -> str:
    """Return the message about a value, in plain words if a number was expected."""
    value, is_value, _ = message.partition(" is not ")
    is_whole = isinstance(kind, type(click.INT))
    if not is_value or not (is_whole or isinstance(kind, type(click.FLOAT))):
        return message
    noun = "a whole number" if is_whole else "a number"
    without_comma = value.strip("'").replace(",", "" if is_whole else ".")
    is_fixed = "," in value and re.fullmatch(r"-?\d*\.?\d+", without_comma)
    advice = f"; write {without_comma}" if is_fixed else ""
    return f"{value} is not {' '.join([noun, *_describe_limits(kind)])}{advice}"


def _describe_limits(kind: click.ParamType[Any]) -> list[str]:
    """Describe the limits of a number; none if it has no limits."""
    if not isinstance(kind, click.IntRange | click.FloatRange):
        return []
    low, high = kind.min, kind.max
    if isinstance(kind, click.IntRange):  # The last number below a limit is a limit too.
        low = None if kind.min is None else kind.min + kind.min_open
        high = None if kind.max is None else kind.max - kind.max_open
    is_open = isinstance(kind, click.FloatRange)
    if low is not None and high is not None and not (is_open and (kind.min_open or kind.max_open)):
        return [f"from {low:.15g} to {high:.15g}"]
    lowest = "above" if is_open and kind.min_open else "of at least"
    highest = "below" if is_open and kind.max_open else "of at most"
    limits = [f"{lowest} {low:.15g}"] if low is not None else []
    return limits + ([f"{highest} {high:.15g}"] if high is not None else [])


def _suggest_option(name: str, command: click.Command) -> str:
    """Suggest what a user meant by an option that a command does not have."""
    if isinstance(command, click.Group):
        owners = [key for key, inner in command.commands.items() if name in _list_options(inner)]
        named = [key for key in owners if key in sys.argv] or owners
        return f"Put it after the command: `{named[0]} {name}`." if named else ""
    word, options = name.lstrip("-"), _list_options(command)
    if len(word) == 1:
        nearest = [option for option in options if option.startswith(f"--{word}")]
    else:
        ends = [option for option in options if option.rpartition(".")[2] == word]
        nearest = ends or difflib.get_close_matches(name, options)
    listed = " or ".join(nearest)
    return f"Did you mean {listed}?" if nearest else ""
