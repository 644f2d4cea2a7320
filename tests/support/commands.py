"""Run commands, in the process of the test or in one of their own."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, AnyStr

import click
import pytest

from tests.support.tiny import TINY
from valyrian_jax.cli.entry_point import run_command

ROOT = Path(__file__).parents[2]
TINY_CONFIG = ROOT / "configs" / "tiny.toml"
TINY_OPTIONS = [f"--{key}={value}" for key, value in {**TINY, "train.sample_every": 0}.items()]

RunMain = Callable[..., tuple[int, str, str]]
"""A function that runs `python -m valyrian_jax` with arguments."""


def call(
    program: click.Command,
    capsys: pytest.CaptureFixture[AnyStr],
    monkeypatch: pytest.MonkeyPatch,
    *arguments: Any,
) -> tuple[int, AnyStr, AnyStr]:
    """Run a command; return its exit status, standard output and standard error."""
    monkeypatch.setattr(sys, "argv", ["program", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_info:
        run_command(program)
    out, err = capsys.readouterr()
    return int(exit_info.value.code or 0), out, err


def call_on_terminal(
    program: click.Command,
    monkeypatch: pytest.MonkeyPatch,
    *arguments: Any,
    statuses: Sequence[int] = (0,),
) -> str:
    """Return what a command prints when standard output is a terminal."""
    leader, follower = os.openpty()
    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as patch:
        output = pool.submit(read_terminal, leader)
        with os.fdopen(follower, "w", encoding="utf-8") as terminal:
            patch.setattr(sys, "stdout", terminal)
            patch.setattr(sys, "argv", ["program", *map(str, arguments)])
            with pytest.raises(SystemExit) as exit_info:
                run_command(program)
    os.close(leader)
    assert int(exit_info.value.code or 0) in statuses
    return output.result().decode().replace("\r\n", "\n")


def read_terminal(leader: int) -> bytes:
    """Read what is written to a terminal until it is closed."""
    output = b""
    with contextlib.suppress(OSError):  # Linux reports the closed terminal as an error.
        while block := os.read(leader, 4096):
            output += block
    return output


def assert_one_line_error(err: str, message: str) -> None:
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def start_training(home: Path, text: Path, out: str, *options: str) -> subprocess.Popen[str]:
    """Start a tiny run in a process of its own, in an empty directory."""
    arguments = ["--config", str(TINY_CONFIG), "--data.path", str(text), "--out", out]
    return subprocess.Popen(
        [sys.executable, "-u", ROOT / "train.py", *arguments, *TINY_OPTIONS, *options],
        cwd=home,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
