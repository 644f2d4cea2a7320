"""A command line, called in this process."""

import contextlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click
import pytest

from valyrian_jax.cli.options import run_command


def call(
    entry: click.Command,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *arguments: Any,
) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["program", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        run_command(entry)
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


def call_on_terminal(entry: click.Command, monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> str:
    """What a command prints where standard output is a terminal, run in this process; it must succeed."""
    leader, follower = os.openpty()
    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as patch:
        shown = pool.submit(_read, leader)
        with os.fdopen(follower, "w", encoding="utf-8") as terminal:
            patch.setattr(sys, "stdout", terminal)
            patch.setattr(sys, "argv", ["program", *map(str, arguments)])
            with pytest.raises(SystemExit) as stopped:
                run_command(entry)
    os.close(leader)
    assert not stopped.value.code
    return shown.result().decode().replace("\r\n", "\n")


def _read(leader: int) -> bytes:
    """What is written to a terminal until it is closed."""
    shown = b""
    with contextlib.suppress(OSError):  # what Linux says of a closed one
        while part := os.read(leader, 4096):
            shown += part
    return shown
