"""How a command ends early: errors that a user can cause, and signals that ask it to stop or save.

`valyrian_jax.cli.entry_point.run_command` prints the message of an error. It is one line: what is
wrong, what was expected, what was found and what to do.
"""

import contextlib
import os
import shlex
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TextIO

_SHOWN_NAME = 80  # characters
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
StopSignal = Callable[[], signal.Signals | None]
"""A function that returns the signal that asks a loop to stop, or None."""
SaveRequest = Callable[[], bool]
"""A function that returns whether a signal has asked a loop to save since the last call."""


def escape(text: str) -> str:
    r"""Replace the characters of a text that cannot be printed by escapes like \x1b.

    A file name can contain control characters, which would drive the terminal, and bytes that are
    not UTF-8, which Python keeps as surrogates and no output encoding accepts.
    """
    return "".join(c if c.isprintable() else _escape_character(c) for c in text)


def _escape_character(character: str) -> str:
    is_byte = "\udc80" <= character <= "\udcff"  # see `os.fsdecode`
    return (
        (chr(ord(character) - 0xDC00) if is_byte else character).encode("unicode_escape").decode()
    )


def check_unicode(text: str, name: str) -> None:
    """Check that UTF-8 can represent a text; an escape in JSON can be a lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{name} is not valid Unicode: it has a lone surrogate; remove it"
        ) from error


def shorten(name: str) -> str:
    """Return the beginning of a name, escaped, for a message that it does not exist.

    A user may have passed a whole text in place of a name.
    """
    shown = escape(name[: _SHOWN_NAME + 1])
    return shown if len(shown) <= _SHOWN_NAME else shown[:_SHOWN_NAME] + "..."


def quote_argument(argument: str) -> str:
    """Quote an argument of a command for a shell, in printable characters only."""
    if escape(argument) == argument:
        return shlex.quote(argument)
    encoded = (
        chr(b) if 0x20 <= b < 0x7F and b not in b"'\\" else f"\\x{b:02x}"
        for b in os.fsencode(argument)
    )
    return f"$'{''.join(encoded)}'"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; those of libraries can have hundreds."""
    return str(error).strip().partition("\n")[0]


class UserError(Exception):
    """A mistake in the input (a file, an option, a value), not in the program; exit status 2.

    Any function that checks input, or calls one that does, may raise it. Docstrings name the
    reasons only where input enters: the API, and functions that open a file or start a job.
    """


class StoppedError(Exception):
    """The end of work that a signal stopped; everything is saved."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.status = 128 + signal


def silence(stream: TextIO) -> None:
    """Discard the rest of an output, and what Python would flush to it on exit."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed.
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)


@contextlib.contextmanager
def stop_signals() -> Iterator[StopSignal]:
    """Record the first stop signal, for the function it yields; a second one ends the process.

    SIGINT is Ctrl-C; schedulers that preempt jobs send SIGTERM; a terminal that closes sends
    SIGHUP, and often its shell does too, so a second SIGHUP changes nothing.
    """
    received: list[signal.Signals] = []

    def record(number: int, _: FrameType | None) -> None:
        received.append(signal.Signals(number))
        _write_note("finishing the current work and saving; press Ctrl-C again to quit now")
        for stop_signal in _STOP_SIGNALS:
            if signal.getsignal(stop_signal) is record:
                is_hangup = stop_signal == signal.SIGHUP
                signal.signal(stop_signal, signal.SIG_IGN if is_hangup else signal.SIG_DFL)

    with _handle_signals(_STOP_SIGNALS, record):
        yield lambda: received[0] if received else None


@contextlib.contextmanager
def save_requests() -> Iterator[SaveRequest]:
    """Record SIGUSR1, with which a scheduler such as Slurm asks a job to save and continue."""
    received: list[int] = []

    def record(number: int, _: FrameType | None) -> None:
        received.append(number)
        _write_note("saving after the current work")

    def take_request() -> bool:
        is_requested = bool(received)
        received.clear()
        return is_requested

    with _handle_signals((signal.SIGUSR1,), record):
        yield take_request


@contextlib.contextmanager
def delay_interrupts() -> Iterator[None]:
    """Delay Ctrl-C until the end of the block; a second one ends the process at once.

    Numba calls Python while it compiles and while its code returns. An exception of a signal
    handler is lost there, or crashes the process.
    """
    received: list[int] = []

    def record(number: int, _: FrameType | None) -> None:
        received.append(number)
        _write_note("finishing the current work; press Ctrl-C again to quit now")
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with _handle_signals((signal.SIGINT,), record):
        yield
    if received:
        signal.raise_signal(signal.SIGINT)


def _write_note(text: str) -> None:
    """Write a line to standard error without Python's buffer: a handler may interrupt its use."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode())


@contextlib.contextmanager
def _handle_signals(
    numbers: tuple[signal.Signals, ...], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Handle signals, and restore their handlers at the end.

    A signal that the process ignored from its start stays ignored: a shell sets this for background
    jobs, and nohup for SIGHUP. Outside the main thread, which alone receives signals, nothing is
    handled.
    """
    is_main_thread = threading.current_thread() is threading.main_thread()
    previous = {
        number: signal.getsignal(number)
        for number in numbers
        if is_main_thread and signal.getsignal(number) != signal.SIG_IGN
    }
    for number in previous:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, former in previous.items():
            signal.signal(number, former)
