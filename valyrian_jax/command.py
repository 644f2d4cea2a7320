"""What all command lines share: options from the configuration, and errors in one line."""

import os
import sys
from typing import Any, Literal, NoReturn, get_args, get_origin

import click

from valyrian_jax.config import keys
from valyrian_jax.errors import UserError

_SEPARATOR = "__"


def run(command: click.Command) -> NoReturn:
    """Run a command on sys.argv and exit.

    Every mistake of the user, from a mistyped option to an unreadable file, ends in one line on standard error and
    status 2; `--debug` anywhere on the line shows the traceback instead.
    """
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if len(arguments) < len(sys.argv) - 1:
        sys.exit(command.main(arguments, standalone_mode=False))
    try:
        sys.exit(command.main(arguments, standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.ctx.get_help() if error.ctx else error)
        sys.exit(2)
    except click.ClickException as error:
        _fail(error.format_message())
    except UserError as error:
        _fail(str(error))
    except BrokenPipeError:  # the reader of our output has gone, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except MemoryError as error:
        _fail(f"not enough memory: {error}; ask for less at a time")
    except (KeyboardInterrupt, click.Abort):
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _fail(message: str) -> NoReturn:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(2)


def config_options() -> list[click.Parameter]:
    """One option for every configuration key: --section.key VALUE."""
    return [
        click.Option(
            [f"--{key.name}", key.name.replace(".", _SEPARATOR)],
            type=_click_type(key.type),
            help=f"{key.description} [{key.default if key.default != '' else 'empty'}]",
        )
        for key in keys()
    ]


def overrides(options: dict[str, Any]) -> dict[str, Any]:
    """The values given for `config_options`, by dotted key."""
    return {name.replace(_SEPARATOR, "."): value for name, value in options.items() if value is not None}


def _click_type(annotation: Any) -> click.ParamType[Any]:
    if get_origin(annotation) is Literal:
        return click.Choice(get_args(annotation))
    plain: dict[Any, click.ParamType[Any]] = {int: click.INT, float: click.FLOAT, bool: click.BOOL, str: click.STRING}
    return plain[annotation]
