"""Run train.py in processes of a fork server that has imported everything, so they start quickly.

`ForkedProcess` has the methods of `subprocess.Popen` that tests use.
"""

import atexit
import os
import runpy
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TextIO

from tests.support.killing import FORK_SERVER

ROOT = Path(__file__).parents[2]


class ForkedProcess:
    """A process that runs train.py, or other code, with pipes for its output and its errors."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], code: str = ""):
        (output, stdout), (errors, stderr) = os.pipe(), os.pipe()
        self.stdout, self.stderr = (os.fdopen(end, encoding="utf-8") for end in (output, errors))
        streams = Connection(stdout, readable=False), Connection(stderr, readable=False)
        self._process = FORK_SERVER.Process(
            target=_run, args=(*streams, [*arguments], {**environment}, code)
        )
        self._process.start()
        for stream in streams:
            stream.close()

    @property
    def returncode(self) -> int | None:
        """The exit status, or minus the signal that ended the process; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self._process.is_alive():
            os.kill(self._process.pid or 0, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return the rest of the output and of the errors, after the process has ended."""
        with ThreadPoolExecutor() as pool:
            texts = [pool.submit(_read_rest, stream) for stream in (self.stdout, self.stderr)]
            self._process.join(timeout)
            if self._process.is_alive():
                self.kill()
                raise TimeoutError(f"the process took more than {timeout} s")
            output, errors = (text.result() for text in texts)
        return output, errors


def _read_rest(stream: TextIO) -> str:
    """Read a stream to its end and close it; a closed one has no rest."""
    if stream.closed:
        return ""
    with stream:
        return stream.read()


def _run(
    stdout: Connection,
    stderr: Connection,
    arguments: list[str],
    environment: dict[str, str],
    code: str,
) -> None:
    os.dup2(stdout.fileno(), 1)
    os.dup2(stderr.fileno(), 2)
    stdout.close()
    stderr.close()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.argv = ["train.py", *arguments]
    try:
        if code:
            exec(code, {"__name__": "__main__"})
        else:
            runpy.run_path("train.py", run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out


def find_free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"
