"""A command line, called in this process."""

import sys
from typing import Any

import click
import pytest

from valyrian_jax import command


def call(
    entry: click.Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: Any
) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["program", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        command.run(entry)
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err
