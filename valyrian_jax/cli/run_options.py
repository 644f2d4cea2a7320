"""Options that name a run, and options that are made from the settings of a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from click.core import ParameterSource

from valyrian_jax.bundle.shipped_model import SHIPPED_HINT, SHIPPED_MODEL, name_model
from valyrian_jax.cli.options import INPUT, decode_argument, json_option, show_tokens_option
from valyrian_jax.config import BLANK_LINE, MAX_DRAWS, Setting, check_separator, list_settings
from valyrian_jax.errors import UserError, quote_argument

Callback = Callable[..., None]
Decorator = Callable[[Callback], Callback]

# What other programs call the options of `sample` and `generate`.
_OTHER_NAMES = {
    "length": "max-new-tokens",
    "max-length": "max-new-tokens",
    "max-tokens": "max-new-tokens",
    "min-tokens": "min-new-tokens",
    "n": "num-samples",
    "num": "num-samples",
    "repeat-penalty": "repetition-penalty",
    "samples": "num-samples",
    "temp": "temperature",
    "tokens": "max-new-tokens",
    "topk": "top-k",
    "topp": "top-p",
}


def _normalize_name(name: str) -> str:
    name = name.replace("_", "-")
    return _OTHER_NAMES.get(name, name)


ACCEPT_OTHER_NAMES = {"token_normalize_func": _normalize_name}
"""Settings of a command that also takes names of other programs, such as --max_tokens."""

_SHOWN_PROMPT = 80  # characters of a prompt that a message repeats


def choose_run(run: Path | None) -> Path:
    """Return the run that the user names, or else the newest one with weights.

    Without one, return the bundle of the model that ships. Print which it is, unless it is named.
    """
    from valyrian_jax.run_directory import RUNS, find_newest_run, locate_run

    if run is not None:
        return locate_run(run)
    if newest := find_newest_run():
        shown = decode_argument(str(newest))
        click.echo(f"using the newest run with weights: {shown}; {SHIPPED_HINT}", err=True)
        return newest
    note = f"no run with weights under {RUNS}/; using {name_model(SHIPPED_MODEL)}"
    click.echo(note, err=True)
    return SHIPPED_MODEL


def choose_run_or_prompt(run: Path | None) -> Path:
    """Return the run of a command that generates text, as `choose_run` does.

    Raises:
        UserError: It does not exist; it may be meant as a prompt.
    """
    try:
        return choose_run(run)
    except UserError as error:
        prompt = str(run) if len(str(run)) <= _SHOWN_PROMPT else "TEXT"
        raise UserError(
            f"{error}; or pass --prompt {quote_argument(prompt)} if it is a text to continue"
        ) from error


def _run_argument(choose: Callable[[Path | None], Path]) -> Decorator:
    """Return the argument RUN, with a function that chooses the run of the command."""

    def callback(context: click.Context, _: click.Parameter, run: Path | None) -> Path | None:
        is_completion = context.resilient_parsing  # of a command line, in which nothing is printed
        return run if is_completion else choose(run)

    return click.argument("run", type=INPUT, required=False, callback=callback)


run_argument = _run_argument(choose_run)


def _check_separator(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        return check_separator(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


separator_option = click.option(
    "--separator",
    metavar="TEXT",
    default=BLANK_LINE,
    show_default=True,
    callback=_check_separator,
    help="What separates the documents of plain text: blank line, any string, or re:PATTERN.",
)


def _sample_option(setting: Setting) -> Decorator:
    """Return the option for a setting of the sampler; without it, the run's value is used."""
    is_list = get_origin(setting.type) is tuple
    return click.option(
        f"--{setting.name.partition('.')[2].replace('_', '-')}",
        type=decode_argument if is_list else _make_range(setting),
        metavar="TEXT" if is_list else None,
        multiple=is_list,
        callback=lambda _context, _parameter, value: None if value == () else value,
        show_default=None if is_list else f"that of the run, or {setting.default:g}",
        help=setting.description,
    )


def _make_range(setting: Setting) -> click.IntRange | click.FloatRange:
    """Return the type of a number with the limits of its setting."""
    limits = setting.limits
    return (click.IntRange if setting.type is int else click.FloatRange)(
        limits.get("ge", limits.get("gt")),
        limits.get("le", limits.get("lt")),
        min_open="gt" in limits,
        max_open="lt" in limits,
    )


_SAMPLE_OPTIONS: tuple[Decorator, ...] = (
    _run_argument(choose_run_or_prompt),
    click.option(
        "--prompt",
        type=decode_argument,
        metavar="TEXT",
        default="",
        show_default="the beginning of a document",
        help="Text to continue.",
    ),
    *(
        _sample_option(setting)
        for setting in list_settings()
        if setting.name.startswith("sample.") and setting.name != "sample.prompt"
    ),
    click.option(
        "--num-samples",
        type=click.IntRange(1, 2**31 - 1),
        default=1,
        show_default=True,
        help="Number of texts; each takes the next seed.",
    ),
    click.option(
        "--grammatical",
        is_flag=True,
        help=f"Draw each sentence again until it is right, up to {MAX_DRAWS} times. Only for "
        "models of High Valyrian.",
    ),
    show_tokens_option,
    json_option,
)


def sample_options(callback: Callback) -> Callback:
    """Add the arguments of a command that generates text: `run` and those of `print_samples`."""
    for add_option in reversed(_SAMPLE_OPTIONS):
        callback = add_option(callback)
    return callback


def config_options(callback: Callback) -> Callback:
    """Add one option for every configuration key: --section.key VALUE."""
    for setting in reversed([*list_settings()]):
        is_choice, is_list = (get_origin(setting.type) is kind for kind in (Literal, tuple))
        value_type: Any = str if is_list else setting.type
        add_option = click.option(
            f"--{setting.name}",
            _parameter_name(setting.name),
            type=click.Choice(get_args(setting.type)) if is_choice else value_type,
            default=setting.default,
            show_default=True,
            multiple=is_list,
            help=setting.description,
        )
        callback = add_option(callback)
    return callback


def collect_overrides(options: dict[str, Any]) -> dict[str, Any]:
    """Return the values of `config_options` that the command line sets, by dotted key.

    Args:
        options: Values of the parameters of the current command.
    """
    context = click.get_current_context()
    return {
        setting.name: options[name]
        for setting in list_settings()
        if context.get_parameter_source(name := _parameter_name(setting.name))
        is ParameterSource.COMMANDLINE
    }


def _parameter_name(key: str) -> str:
    """Return a Python identifier for a dotted configuration key."""
    return key.replace(".", "__")
