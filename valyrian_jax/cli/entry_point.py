"""The entry point of every program: run a command, and end every user error in one line."""

import os
import re
import sys
from importlib import metadata
from typing import NoReturn

import click

from valyrian_jax.errors import StoppedError, UserError, escape

_MAX_MESSAGE = 2000  # characters


def run_command(command: click.Command) -> NoReturn:
    """Run a command on sys.argv and exit.

    Every user error, from a mistyped option to an unreadable file, ends in one line on standard
    error and status 2. `--debug` anywhere on the command line shows the traceback instead.
    """
    for name in ("COLUMNS", "LINES"):
        # A shell without a terminal can set 0, for which rich prints nothing.
        if not re.fullmatch("0*[1-9][0-9]{0,5}", os.environ.get(name, "")):
            os.environ.pop(name, None)
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if "--debug" in sys.argv[1:]:
        sys.exit(command.main(arguments, standalone_mode=False))
    try:
        sys.exit(command.main(arguments, standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.ctx.get_help() if error.ctx else error)
        sys.exit(2)
    except click.ClickException as error:
        _exit_with_error(error.format_message())
    except UserError as error:
        _exit_with_error(str(error))
    except StoppedError as stop:
        print(escape(str(stop)), file=sys.stderr)
        sys.exit(stop.status)
    except BrokenPipeError:  # The reader closed the pipe, as in `... | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except UnicodeEncodeError as error:
        character = error.object[error.start]
        _exit_with_error(
            f"cannot print {character!r}: the encoding of the output is {error.encoding}; "
            "set PYTHONIOENCODING=utf-8"
        )
    except ModuleNotFoundError as error:
        if message := describe_missing_package(error.name or ""):
            _exit_with_error(message)
        raise
    except OSError as error:
        _exit_with_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except MemoryError as error:
        _exit_with_error(f"not enough memory: {error}; choose smaller sizes")
    except (KeyboardInterrupt, click.Abort):
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def describe_missing_package(name: str) -> str | None:
    """Say how to install a package that is missing; None if this project does not require it.

    Args:
        name: Name of the module that could not be imported.
    """
    try:
        requirements = metadata.requires("valyrian-gpt") or []
    except metadata.PackageNotFoundError:  # the code runs without being installed
        requirements = []
    for requirement in requirements:
        package = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        if package.replace("-", "_") == name:
            extra = re.search(r"extra == .(\w+)", requirement)
            target = f".[{extra[1]}]" if extra else "."
            return (
                f"cannot run this command: it needs the package {package}, which is not installed; "
                f'install it with `pip install -c constraints.txt -e "{target}"`'
            )
    return None


def _exit_with_error(message: str) -> NoReturn:
    """Print one printable line of limited length and exit with status 2.

    A message can quote a name from a file, which can be very long; see `escape` too.
    """
    line = " ".join(message[: 2 * _MAX_MESSAGE].split())
    if len(line) > _MAX_MESSAGE:
        line = line[:_MAX_MESSAGE] + " ..."
    print(f"error: {escape(line)}", file=sys.stderr)
    sys.exit(2)
