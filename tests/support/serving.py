"""Start the server of the page in its own process, as `python -m bridge serve` does.

Importing PyTorch takes longer than most tests, so the processes of servers are forked from one that
has imported it.
"""

import contextlib
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from valyrian_jax.config import SampleConfig

SAMPLE = SampleConfig(
    prompt="the dragon, Ȳdra ", max_new_tokens=60, temperature=0.2, top_k=0, top_p=0.7, seed=7
)
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["bridge.__main__", "bridge.api", "bridge.web.server"])


class PageServer(NamedTuple):
    """A running server."""

    process: BaseProcess
    line: str
    log: TextIO
    url: str
    port: int

    def send_signal(self, number: int) -> None:
        assert self.process.pid
        with contextlib.suppress(ProcessLookupError):  # It may have ended.
            os.kill(self.process.pid, number)

    def wait(self) -> int | None:
        """Return the exit status of the server when it has ended."""
        self.process.join()
        return self.process.exitcode

    def wait_for_end(self, seed: int) -> str:
        """Return what the log says when the next text with a seed ends, as in "60 tokens"."""
        marker = f"; seed {seed}: "
        lines = iter(self.log.readline, "")
        return next(line for line in lines if marker in line).partition(marker)[2].rstrip()


@contextlib.contextmanager
def start_server(directory: Path, *options: str) -> Iterator[PageServer]:
    """Serve a bundle directory on a free port."""
    arguments = ("serve", str(directory), "--port", "0", *options)
    (out, child_out), (err, child_err) = _CONTEXT.Pipe(False), _CONTEXT.Pipe(False)
    process = _CONTEXT.Process(target=_run_bridge, args=(arguments, child_out, child_err))
    process.start()
    child_out.close()
    child_err.close()
    try:
        with _open(out) as output, _open(err) as log:
            line = output.readline()
            assert "is at http://127.0.0.1:" in line, line + log.read()
            url = line.partition(" is at ")[2].split()[0]
            port = int(url.rstrip("/").rpartition(":")[2])
            yield PageServer(process, line, log, url, port)
            process.terminate()
            log.read()
    finally:
        process.terminate()
        process.join()
        process.close()


def post(port: int, path: str, body: Any, **headers: str) -> tuple[int, str]:
    """Return the status and the body of the response to a JSON request."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return request(port, "POST", path, data, {"Content-Type": "application/json", **headers})


def request(port: int, method: str, path: str, *rest: Any) -> tuple[int, str]:
    """Return the status and the body of the response to a request."""
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, path, *rest)
        response = connection.getresponse()
        return response.status, response.read().decode()


def _open(connection: Connection) -> TextIO:
    with connection:
        return os.fdopen(os.dup(connection.fileno()), encoding="utf-8")


def _run_bridge(arguments: tuple[str, ...], out: Connection, err: Connection) -> None:
    from bridge.__main__ import run

    for connection, number in ((out, 1), (err, 2)):
        with connection:
            os.dup2(connection.fileno(), number)
    sys.argv = ["bridge", *arguments]
    run()
