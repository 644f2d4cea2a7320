"""The exceptions that end a command in one line.

A `UserError` is raised anywhere below a command line with a message of one line that names the thing, what was
expected, what was found and what to do. `valyrian_jax.cli.options.run_command` prints it and exits with status 2.
"""

import signal
from collections.abc import Callable

StopSignal = Callable[[], signal.Signals | None]
"""Asked by a loop when it can stop: the signal that asks it to, or None."""


class UserError(Exception):
    """A mistake in the input (a file, an option, a value), not in the program."""


class StoppedError(Exception):
    """The work was stopped by a signal, and everything is saved."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.status = 128 + signal
