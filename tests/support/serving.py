"""The playground's server in a process of its own, as a user starts it."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).parents[2]


class Served(NamedTuple):
    """A server that runs."""

    process: subprocess.Popen[str]
    url: str
    port: int

    def ended(self, seed: int) -> str:
        """What the server says of the next text with a seed when it ends: how many tokens, and how."""
        start = f"seed {seed}: "
        return next(line for line in lines(self.process.stderr) if line.startswith(start))[
            len(start) :
        ].rstrip()


def lines(file: IO[str] | None) -> Iterator[str]:
    assert file
    return iter(file.readline, "")


@contextmanager
def serving(directory: Path) -> Iterator[Served]:
    """A server of a bundle."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "serve", directory, "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = next(lines(process.stdout), "")
        assert "is at http://127.0.0.1:" in line, line
        url = line.split()[3]
        yield Served(process, url, int(url.rstrip("/").rpartition(":")[2]))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()
