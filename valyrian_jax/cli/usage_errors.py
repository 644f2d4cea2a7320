"""Mistakes in a command line: each is explained in one line, with what to write instead."""

import re
import sys
from collections.abc import Mapping
from typing import Any

import click

from valyrian_jax.errors import quote_argument

COMMANDS_OF_ONE_PROGRAM: Mapping[str, tuple[str, ...]] = {
    "valyrian": (
        "corpus",
        "eval",
        "gloss",
        "inspect",
        "language",
        "pairs",
        "plan",
        "plot",
        "sample",
        "tokenizer",
        "train",
        "word",
    ),
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
        for program, commands in COMMANDS_OF_ONE_PROGRAM.items():
            if error.command_name in commands:
                return f"{error.message} Use `{program} {error.command_name}`."
    if isinstance(error, click.NoSuchOption) and command:
        return f"{error.message} {_suggest_option(error, command)}".rstrip()
    return error.format_message() + (_suggest_value(error.message, command) if command else "")


def _suggest_value(message: str, command: click.Command) -> str:
    """Suggest an option for extra arguments, such as the words of a prompt."""
    extra = re.match(r"Got unexpected extra arguments? \((.*)\)", message, re.DOTALL)
    names = [name for name in _VALUES_WITHOUT_OPTION if name in _list_options(command)]
    return f"; did you mean {names[0]} {quote_argument(extra[1])}?" if extra and names else ""


def _list_options(command: click.Command) -> list[str]:
    options = (param for param in command.params if isinstance(param, click.Option))
    return [name for option in options for name in option.opts]


def _explain_number(message: str, kind: click.ParamType[Any]) -> str:
    """Return the message about a value; if a number was expected, say so in plain English."""
    value, is_value, _ = message.partition(" is not ")
    is_whole = isinstance(kind, type(click.INT))
    if not is_value or not (is_whole or isinstance(kind, type(click.FLOAT))):
        return message
    noun = "a whole number" if is_whole else "a number"
    without_comma = value.strip("'").replace(",", "" if is_whole else ".")
    is_fixed = "," in value and re.fullmatch(r"-?\d*\.?\d+", without_comma)
    advice = f"; write {without_comma}" if is_fixed else ""
    return f"{value} is not {noun}{_describe_limits(kind)}{advice}"


def _describe_limits(kind: click.ParamType[Any]) -> str:
    """Describe the limits of a number; empty if it has none."""
    if not isinstance(kind, click.IntRange | click.FloatRange):
        return ""
    low, high, is_low_open, is_high_open = kind.min, kind.max, kind.min_open, kind.max_open
    if isinstance(kind, click.IntRange):  # The whole number beside an open limit is a limit too.
        low, is_low_open = (low if low is None else low + is_low_open), False
        high, is_high_open = (high if high is None else high - is_high_open), False
    if low is not None and high is not None and not (is_low_open or is_high_open):
        return f" from {low:.15g} to {high:.15g}"
    lower = "" if low is None else f" {'above' if is_low_open else 'of at least'} {low:.15g}"
    upper = "" if high is None else f" {'below' if is_high_open else 'of at most'} {high:.15g}"
    return " and".join(filter(None, (lower, upper)))


def _suggest_option(error: click.NoSuchOption, command: click.Command) -> str:
    """Suggest what a user meant by an option that a command does not have."""
    name, options = error.option_name, _list_options(command)
    if isinstance(command, click.Group):
        owners = [key for key, inner in command.commands.items() if name in _list_options(inner)]
        if owners := [key for key in owners if key in sys.argv] or owners:
            return f"Put it after the command: `{owners[0]} {name}`."
    word = name.lstrip("-")
    if len(word) == 1:
        nearest = [option for option in options if option.startswith(f"--{word}")]
    else:
        nearest = [option for option in options if option.rpartition(".")[2] == word]
    nearest = nearest or error.possibilities or []
    return f"Did you mean {' or '.join(nearest)}?" if nearest else ""
