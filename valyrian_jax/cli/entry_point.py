"""The entry point of every program: run a command, and end every user error in one line."""

import errno
import logging
import os
import re
import sys
import threading
from importlib import metadata
from typing import Any, NoReturn

import click

from valyrian_jax import __version__
from valyrian_jax.cli.program_cache import use_program_cache
from valyrian_jax.cli.usage_errors import explain_usage_error
from valyrian_jax.errors import StoppedError, UserError, escape, silence

_MAX_MESSAGE = 2000  # characters

version_option = click.version_option(
    __version__, prog_name="valyrian-gpt", message="%(prog)s %(version)s"
)


def run_command(command: click.Command) -> NoReturn:
    """Run a command on sys.argv and exit.

    Every user error, from a mistyped option to an unreadable file, ends in one line on standard
    error and status 2. `--debug` anywhere on the command line shows the traceback instead.
    """
    _list_debug(command, sys.argv[1:])
    _ignore_impossible_sizes()
    use_program_cache()
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if "--debug" in sys.argv[1:]:
        sys.exit(command.main(arguments, standalone_mode=False))
    _hide_tracebacks_of_threads()
    stdout = sys.stdout
    try:
        sys.exit(command.main(arguments, standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.ctx.get_help() if error.ctx else error)
        sys.exit(2)
    except StoppedError as stop:
        _exit_with_message(escape(str(stop)), stop.status)
    except BrokenPipeError as error:
        _exit_without_reader(130 if isinstance(error.__context__, KeyboardInterrupt) else 0)
    except SystemExit:
        if sys.stdout is not stdout:  # Click replaces a broken pipe, and exits with status 1.
            _exit_without_reader(0)
        raise
    except (KeyboardInterrupt, click.Abort):
        _exit_with_message("interrupted", 130)
    except Exception as error:
        if (message := _describe_error(error)) is None:
            raise
        _exit_with_error(message)


def _describe_error(error: Exception) -> str | None:
    """Return the message of an error for the user; None: the error is a bug of this program."""
    match error:
        case click.ClickException():
            return explain_usage_error(error)
        case UserError():
            return str(error)
        case UnicodeEncodeError():
            return (
                f"cannot print {error.object[error.start]!r}: the encoding of the output is "
                f"{error.encoding}; set PYTHONIOENCODING=utf-8"
            )
        case ModuleNotFoundError():
            return describe_missing_package(error.name or "")
        case OSError(errno=errno.ENOSPC, filename=None):
            return "cannot write the output: the disk is full; free some space, or write elsewhere"
        case OSError():
            return f"{error.filename}: {error.strerror}" if error.filename else str(error)
        case MemoryError():
            return f"not enough memory: {error}; choose smaller sizes"
    return _explain_jax_failure()


def _list_debug(command: click.Command, arguments: list[str]) -> None:
    """List --debug, which `run_command` handles, in the help of a command and its subcommands."""
    if not any(option.name == "debug" for option in command.params):
        text = "Show the traceback of an error."
        option = click.Option(["--debug"], is_flag=True, expose_value=False, help=text)
        command.params.append(option)
    commands = command.commands if isinstance(command, click.Group) else {}
    for name in arguments:
        if name in commands:
            _list_debug(commands[name], arguments)


def _ignore_impossible_sizes() -> None:
    """Ignore terminal sizes that are not positive numbers; rich would print nothing."""
    for name in ("COLUMNS", "LINES"):
        if not re.fullmatch("0*[1-9][0-9]{0,5}", os.environ.get(name, "")):
            os.environ.pop(name, None)


def _exit_without_reader(status: int) -> NoReturn:
    """Exit after the reader has closed the pipe, as in `... | head`."""
    silence(sys.stdout)
    silence(sys.stderr)
    sys.exit(status)


def _explain_jax_failure() -> str | None:
    """Return why JAX has no device to compute on; None: it has one, or it was not imported."""
    try:
        if jax := sys.modules.get("jax"):
            jax.devices()
    except Exception as error:  # JAX raises RuntimeError, or AssertionError without a message.
        platforms = os.environ.get("JAX_PLATFORMS", "")
        reason = f" ({error})" if str(error) else ""
        return (
            "JAX cannot start: expected JAX_PLATFORMS to name platforms of this machine, found "
            f"{platforms!r}{reason}; set it to cpu, or unset it"
        )
    return None


def _hide_tracebacks_of_threads() -> None:
    """Hide the tracebacks that the threads of libraries print.

    When a disk is full, every thread of orbax logs or prints the error that it also passes to the
    main thread, which reports it in one line.
    """
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: not record.exc_info)
    logging.basicConfig(handlers=[handler])
    # Threads of C++ code print with this hook; those of Python with another one.
    sys.unraisablehook = _print_unraisable_of_main_thread


def _print_unraisable_of_main_thread(unraisable: Any) -> None:
    if threading.current_thread() is threading.main_thread():
        sys.__unraisablehook__(unraisable)


def completion_help(program: str) -> str:
    """Return the help text that says how to enable completion for a console script."""
    variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
    return (
        "\b\nTab completes commands and options after this line (bash; also zsh, fish):\n"
        f'  eval "$({variable}=bash_source {program})"'
    )


def describe_missing_package(name: str) -> str | None:
    """Return how to install a missing package; None if this project does not require it.

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
    _exit_with_message(f"error: {escape(line)}", 2)


def _exit_with_message(message: str, status: int) -> NoReturn:
    """Print a line on standard error, if that is possible, and exit."""
    try:
        print(message, file=sys.stderr, flush=True)
    except OSError:  # The terminal is closed.
        silence(sys.stderr)
    sys.exit(status)
