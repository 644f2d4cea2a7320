"""Every command shows an example in its help, and the example runs, in a directory that has what it names."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import click
import pytest
import torch

import train
from bridge import __main__ as bridge_main
from tests.support.commands import call
from valyrian_jax import __main__ as main

ROOT = Path(__file__).parents[2]
OLD = ROOT / "tests" / "artifacts" / "0.1.0"  # with a run so small that its examples take no time
PROGRAMS = {
    "python train.py": train.main,
    "python -m valyrian_jax": main.main,
    "python -m bridge": bridge_main.main,
}

torch.set_num_threads(1)  # at these sizes a second one only waits


class Entry(NamedTuple):
    """A command: the program that it belongs to, and the words that call it there."""

    program: str
    path: tuple[str, ...]
    command: click.Command

    @property
    def example(self) -> str:
        """The arguments of the program in the example of this command."""
        found = [
            line for line in (self.command.epilog or "").splitlines() if line.startswith("Example:")
        ]
        assert len(found) == 1, "expected one line with an example in the epilog"
        start = " ".join(("Example:", self.program, *self.path))
        assert f"{found[0]} ".startswith(f"{start} ")
        return found[0].removeprefix(f"Example: {self.program}").lstrip()


def entries(program: str, command: click.Command, path: tuple[str, ...] = ()) -> Iterator[Entry]:
    """A command and all those in it."""
    yield Entry(program, path, command)
    for name, inner in command.commands.items() if isinstance(command, click.Group) else ():
        yield from entries(program, inner, (*path, name))


EVERY = [entry for program, command in PROGRAMS.items() for entry in entries(program, command)]
WITH_EXAMPLE = [entry for entry in EVERY if not isinstance(entry.command, click.Group)]
(SERVE,) = (entry for entry in WITH_EXAMPLE if entry.command.name == "serve")
ELSEWHERE = {
    "serve",
    "verify",
}  # the one does not end, the other takes long: tests/bridge/conftest.py runs it


def name(entry: Entry) -> str:
    return " ".join((*entry.program.split()[-1:], *entry.path))


@pytest.fixture
def home(small_text: Path, tmp_path: Path) -> Path:
    """A directory with all that the examples name; in the place of the shipped text stands a smaller one."""
    shutil.copytree(OLD / "run", tmp_path / "runs" / "first")
    shutil.copytree(OLD / "run" / "bundle", tmp_path / "gpt2")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "data").mkdir()
    shutil.copy(small_text, tmp_path / "data" / "High Valyrian.txt")
    shutil.copy(OLD / "text.txt", tmp_path)  # what the run was trained on
    shutil.copy(OLD / "run" / "tokenizer.json", tmp_path)
    shutil.copy(OLD / "model.pt", tmp_path / "valyrian.pt")
    (tmp_path / "poem.txt").write_text("Vale ēdrus. Valar morghūlis.\n", encoding="utf-8")
    (tmp_path / "ids.txt").write_text("1 2 3\n")
    return tmp_path


@pytest.mark.parametrize("entry", EVERY, ids=name)
def test_every_command_has_help(
    entry: Entry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, shown, err = call(PROGRAMS[entry.program], capsys, monkeypatch, *entry.path, "--help")
    assert (status, err) == (0, "")
    assert shown.startswith("Usage: ")


@pytest.mark.parametrize("entry", WITH_EXAMPLE, ids=name)
def test_every_help_shows_an_example_on_one_line(
    entry: Entry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = call(PROGRAMS[entry.program], capsys, monkeypatch, *entry.path, "--help")[1]
    line = f"Example: {entry.program} {entry.example}".rstrip()
    assert f"  {line}\n" in shown, "the example does not fit into a line of 80 columns; shorten it"


@pytest.mark.parametrize(
    "entry", [entry for entry in WITH_EXAMPLE if entry.command.name not in ELSEWHERE], ids=name
)
def test_every_example_runs_and_writes_plain_text_where_there_is_no_terminal(
    entry: Entry, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    status, out, err = call(
        PROGRAMS[entry.program], capsys, monkeypatch, *shlex.split(entry.example)
    )
    assert status == 0, err
    assert out
    assert "\x1b" not in out + err


def test_the_example_of_serve_opens_the_page(home: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "bridge",
        *shlex.split(SERVE.example),
        "--port",
        "0",
    ]  # 8000 may be taken
    with subprocess.Popen(
        command,
        cwd=home,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout
        try:
            name, _, rest = server.stdout.readline().partition(" is at ")
            assert name == "runs/first"
            with urlopen(rest.split()[0], timeout=60) as page:
                assert b"<title>valyrian-gpt</title>" in page.read()
        finally:
            server.terminate()
