"""Start the server of the page in its own process, as a user does."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from valyrian_jax.config import SampleConfig

ROOT = Path(__file__).parents[2]
SAMPLE = SampleConfig(
    prompt="the dragon, Ȳdra ", max_new_tokens=60, temperature=0.2, top_k=0, top_p=0.7, seed=7
)


class PageServer(NamedTuple):
    """A running server."""

    process: subprocess.Popen[str]
    line: str
    url: str
    port: int

    def wait_for_end(self, seed: int) -> str:
        """Return what the log says when the next text with a seed ends, as in "60 tokens"."""
        marker = f"; seed {seed}: "
        lines = read_lines(self.process.stderr)
        return next(line for line in lines if marker in line).partition(marker)[2].rstrip()


def read_lines(file: IO[str] | None) -> Iterator[str]:
    assert file
    return iter(file.readline, "")


@contextmanager
def start_server(directory: Path, *options: str) -> Iterator[PageServer]:
    """Serve a bundle directory on a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "serve", directory, "--port", "0", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = next(read_lines(process.stdout), "")
        assert "is at http://127.0.0.1:" in line, line
        url = line.partition(" is at ")[2].split()[0]
        yield PageServer(process, line, url, int(url.rstrip("/").rpartition(":")[2]))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()
