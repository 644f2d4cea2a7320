"""The help of every command shows an example, and the example runs."""

import io
import os
import re
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
from valyrian_jax import __version__
from valyrian_jax.bundle.shipped_model import EXAMPLE_OPTIONS
from valyrian_jax.cli.main import main

ROOT = Path(__file__).parents[2]
ARTIFACTS = ROOT / "tests" / "artifacts" / "0.1.0"  # has a run that is very small
PROGRAMS = {
    "python train.py": train.main,
    "python -m valyrian_jax": main,
    "python -m bridge": bridge_main.main,
}

torch.set_num_threads(1)  # A second thread only waits at these sizes.


class Entry(NamedTuple):
    """A command, with the program it belongs to and its path of names there."""

    program: str
    path: tuple[str, ...]
    command: click.Command

    @property
    def example(self) -> str:
        """The arguments of the program in the example of this command."""
        examples = [
            line for line in (self.command.epilog or "").splitlines() if line.startswith("Example:")
        ]
        assert len(examples) == 1, "expected one line with an example in the epilog"
        start = " ".join(("Example:", self.program, *self.path))
        assert f"{examples[0]} ".startswith(f"{start} ")
        return examples[0].removeprefix(f"Example: {self.program}").lstrip()


def walk_commands(
    program: str, command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[Entry]:
    """Yield a command and every command inside it."""
    yield Entry(program, path, command)
    for name, subcommand in command.commands.items() if isinstance(command, click.Group) else ():
        yield from walk_commands(program, subcommand, (*path, name))


ENTRIES = [entry for name, program in PROGRAMS.items() for entry in walk_commands(name, program)]
WITH_EXAMPLE = [entry for entry in ENTRIES if not isinstance(entry.command, click.Group)]
(SERVE,) = (entry for entry in WITH_EXAMPLE if entry.command.name == "serve")
# `serve` runs until it is stopped; `verify` is slow, and tests/bridge/test_parity.py runs it; the
# `train` of valyrian_jax is the command of train.py.
RUN_ELSEWHERE = {"serve", "verify", "train"}


def entry_id(entry: Entry) -> str:
    return " ".join((*entry.program.split()[-1:], *entry.path))


@pytest.fixture
def home(valyrian: str, tmp_path: Path) -> Path:
    """A directory like a clone in which a small model is trained, with a part of the corpus."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copy(ROOT / "README.md", tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "High Valyrian.txt").write_text(valyrian[:50_000], encoding="utf-8")
    shutil.copytree(ARTIFACTS / "run", tmp_path / "runs" / "first")
    shutil.copy(ARTIFACTS / "text.txt", tmp_path)  # the corpus of that run
    shutil.copytree(ARTIFACTS / "run" / "bundle", tmp_path / "gpt2")
    shutil.copy(ARTIFACTS / "run" / "tokenizer.json", tmp_path)
    shutil.copy(ARTIFACTS / "model.pt", tmp_path / "valyrian.pt")
    return tmp_path


@pytest.mark.parametrize("entry", ENTRIES, ids=entry_id)
def test_every_command_has_help_of_at_most_80_columns(
    entry: Entry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    status, out, err = call(PROGRAMS[entry.program], capsys, monkeypatch, *entry.path, "--help")
    assert (status, err) == (0, "")
    assert out.startswith("Usage: ")
    assert "--debug" in out
    assert max(map(len, out.splitlines())) <= 80


def test_every_example_with_a_prompt_takes_the_one_that_gives_a_good_text() -> None:
    examples = [entry.example for entry in WITH_EXAMPLE if "--prompt" in entry.example]
    assert len(examples) == 2
    assert all(example.endswith(EXAMPLE_OPTIONS) for example in examples)
    for file in ("native/options.hpp", "README.md"):
        text = (ROOT / "bridge" / "cpp" / file).read_text(encoding="utf-8").replace('\\"', '"')
        assert EXAMPLE_OPTIONS in text
        assert "valar morghulis" not in text


GROUPS = [entry for entry in ENTRIES if isinstance(entry.command, click.Group)]


@pytest.mark.parametrize("entry", GROUPS, ids=entry_id)
def test_an_unknown_command_is_answered_with_the_nearest(
    entry: Entry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(entry.command, click.Group)
    for name in entry.command.commands:
        wrong = (*entry.path, f"{name[:-1]}x")
        status, _, err = call(PROGRAMS[entry.program], capsys, monkeypatch, *wrong)
        assert status == 2
        assert re.search(rf"Did you mean( one of:)? .*'{name}'", err)


@pytest.mark.parametrize("program", ["python -m valyrian_jax", "python -m bridge"])
def test_a_program_tells_its_version(
    program: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = (0, f"valyrian-gpt {__version__}\n", "")
    assert call(PROGRAMS[program], capsys, monkeypatch, "--version") == answer


@pytest.mark.parametrize(
    ("package", "script", "words", "completions"),
    [
        ("valyrian_jax", "valyrian", "valyrian sa", "plain,sample\n"),
        ("bridge", "valyrian-bridge", "valyrian-bridge ex", "plain,export\n"),
        ("valyrian_jax", "valyrian", "valyrian sample --min-n", "plain,--min-new-tokens\n"),
    ],
)
def test_the_line_in_the_help_completes_commands(
    package: str, script: str, words: str, completions: str
) -> None:
    variable = f"_{script.replace('-', '_').upper()}_COMPLETE"
    assert f'  eval "$({variable}=bash_source {script})"' in (
        PROGRAMS[f"python -m {package}"].epilog or ""
    )
    count = str(len(words.split()) - 1)
    code = f"import sys; sys.argv[0] = {script!r}; from {package}.__main__ import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "COMP_WORDS": words, "COMP_CWORD": count}
        | {variable: "bash_complete"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == completions, done.stderr


@pytest.mark.parametrize("entry", WITH_EXAMPLE, ids=entry_id)
def test_every_help_shows_an_example_on_one_line(
    entry: Entry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = call(PROGRAMS[entry.program], capsys, monkeypatch, *entry.path, "--help")[1]
    line = f"Example: {entry.program} {entry.example}".rstrip()
    assert f"  {line}\n" in out, "the example does not fit into a line of 80 columns; shorten it"


@pytest.mark.parametrize(
    "entry",
    [entry for entry in WITH_EXAMPLE if RUN_ELSEWHERE.isdisjoint(entry.path)],
    ids=entry_id,
)
def test_every_example_runs_and_prints_plain_text_without_a_terminal(
    entry: Entry, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    arguments, _, text = entry.example.partition(" <<< ")
    standard_input = io.BytesIO("".join(shlex.split(text)).encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(standard_input))
    status, out, err = call(PROGRAMS[entry.program], capsys, monkeypatch, *shlex.split(arguments))
    assert status == 0, err
    assert out
    assert "\x1b" not in out + err


def test_the_example_of_serve_opens_the_page(home: Path) -> None:
    example = [*shlex.split(SERVE.example), "--port", "0"]  # The default port can be in use.
    with subprocess.Popen(
        [sys.executable, "-m", "bridge", *example],
        cwd=home,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout
        try:
            name, _, rest = server.stdout.readline().partition(" is at ")
            assert name == "first"
            with urlopen(rest.split()[0], timeout=60) as page:
                assert b"<title>valyrian-gpt</title>" in page.read()
        finally:
            server.terminate()
