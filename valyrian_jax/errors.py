"""How a command ends early: errors that a user can cause, and signals that ask it to stop.

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

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
StopSignal = Callable[[], signal.Signals | None]
"""A function that returns the signal that asks a loop to stop, or None."""


def escape(text: str) -> str:
    r"""Return text in which escapes like \x1b take the place of characters that cannot be printed.

    The name of a file can hold control characters, which would drive the terminal, and bytes that
    are not UTF-8, which Python keeps as surrogates and no output encoding accepts.
    """
    return "".join(c if c.isprintable() else _escape_character(c) for c in text)


def _escape_character(character: str) -> str:
    is_byte = "\udc80" <= character <= "\udcff"  # see `os.fsdecode`
    return (
        (chr(ord(character) - 0xDC00) if is_byte else character).encode("unicode_escape").decode()
    )


def quote_argument(argument: str) -> str:
    """Return an argument of a command as a shell reads it, all of it printable."""
    if escape(argument) == argument:
        return shlex.quote(argument)
    encoded = (
        chr(b) if 0x20 <= b < 0x7F and b not in b"'\\" else f"\\x{b:02x}"
        for b in os.fsencode(argument)
    )
    return f"$'{''.join(encoded)}'"


class UserError(Exception):
    """A mistake in the input (a file, an option, a value), not in the program; exit status 2."""


class StoppedError(Exception):
    """The end of work that a signal stopped; everything is saved."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.status = 128 + signal


@contextlib.contextmanager
def stop_signals() -> Iterator[StopSignal]:
    """Record the first stop signal instead of ending the process; a second one ends it at once.

    SIGINT is Ctrl-C; schedulers that preempt jobs send SIGTERM.

    A signal that the process ignored from its start stays ignored; a shell sets this for background
    jobs. Outside the main thread, which alone receives signals, nothing is recorded.

    Yields:
        A function that returns the recorded signal, or None.
    """
    received: list[signal.Signals] = []

    def record(number: int, _: FrameType | None) -> None:
        received.append(signal.Signals(number))
        with contextlib.suppress(OSError):
            os.write(2, b"finishing the current work and saving; press Ctrl-C again to quit now\n")
        for stop_signal in handlers:
            signal.signal(stop_signal, signal.SIG_DFL)

    is_main_thread = threading.current_thread() is threading.main_thread()
    handlers = {
        stop_signal: signal.getsignal(stop_signal)
        for stop_signal in _STOP_SIGNALS
        if is_main_thread and signal.getsignal(stop_signal) != signal.SIG_IGN
    }
    for stop_signal in handlers:
        signal.signal(stop_signal, record)
    try:
        yield lambda: received[0] if received else None
    finally:
        for stop_signal, handler in handlers.items():
            signal.signal(stop_signal, handler)
