"""The commands of the bridge work without the packages that they do not need.

Importing PyTorch takes longer than most commands, so one process runs several of them.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.commands import ROOT
from tests.support.shipped_model import NOTICE, TEXTS, read_files
from valyrian_jax.bundle.shipped_model import EXAMPLE_PROMPT, EXAMPLE_SEED

pytestmark = pytest.mark.slow

README = (ROOT / "bridge" / "README.md").read_text(encoding="utf-8")
MODULES = {"pillow": "PIL", "orbax-checkpoint": "orbax"}  # that are not named like their package
RUN_COMMANDS = """
import json, sys
blocked, commands = map(json.loads, sys.argv[1:])
for name in blocked: sys.modules[name] = None
from bridge.__main__ import main, run_command
for command in commands:
    sys.argv = ["bridge", *command]
    try: run_command(main)
    except SystemExit as exit: status = exit.code or 0
    for stream in sys.stdout, sys.stderr: print(f"\\0{status}\\0", file=stream, flush=True)
print(json.dumps(sorted(name for name, module in sys.modules.items() if module)))
"""


class Result(NamedTuple):
    """What a command gives."""

    status: int
    out: str
    err: str


def run_commands(
    directory: Path, blocked: set[str], commands: list[list[str]]
) -> tuple[list[Result], set[str]]:
    """Run commands in a process that cannot import some modules.

    Returns:
        The result of each command, and the names of the modules that the process has imported.
    """
    arguments = [json.dumps(sorted(blocked)), json.dumps(commands)]
    done = subprocess.run(
        [sys.executable, "-c", RUN_COMMANDS, *arguments],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    *outs, imported = re.split("\0(\\d+)\0\n", done.stdout)
    errs = re.split("\0\\d+\0\n", done.stderr)[:-1]
    results = zip(map(int, outs[1::2]), outs[::2], errs, strict=True)
    return [Result(*each) for each in results], set(json.loads(imported))


def list_blocked_modules() -> set[str]:
    """Return the modules that the project requires and the side of PyTorch does not need."""
    (line,) = re.findall(r"^```\w*\n(pip install .*?--no-deps.*?)^```$", README, re.M | re.DOTALL)
    needed = {*line.replace("typing-extensions", "").split()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split(r"[^\w-]", package)[0] for package in project["dependencies"]}
    assert {*project["optional-dependencies"]["bridge"]} - {"typing-extensions"} <= needed
    assert {"flax", "jax", "matplotlib", "wandb"} <= names - needed
    return {MODULES.get(name, name) for name in names - needed} | {"transformers"}


class Session(NamedTuple):
    """The results of `generate`, `export` and `verify` in one process without JAX."""

    generate: Result
    export: Result
    verify: Result
    imported: set[str]
    directory: Path


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    directory = tmp_path_factory.mktemp("empty")
    options = ["--prompt", EXAMPLE_PROMPT, "--seed", str(EXAMPLE_SEED)]
    commands = [["generate", *options], ["export", "-o", "x.pt"], ["verify"]]
    before = read_files()
    results, imported = run_commands(directory, list_blocked_modules(), commands)
    assert read_files() == before
    return Session(*results, imported, directory)


def test_the_packages_of_the_side_of_pytorch_are_enough_for_texts(session: Session) -> None:
    text = TEXTS[EXAMPLE_PROMPT, EXAMPLE_SEED]
    assert session.generate == (0, text + "\n", NOTICE)


def test_the_file_of_the_model_that_ships_is_proven_equal(session: Session) -> None:
    size = (session.directory / "x.pt").stat().st_size
    assert session.export.status == 0
    assert session.export.out.startswith(
        f"x.pt: {size:,} bytes, from the model that ships with valyrian_jax; "
    )
    assert session.export.out.endswith("; proven equal by `python -m bridge verify`\n")
    assert session.export.err.startswith(NOTICE)


def test_export_and_verify_do_not_import_torch_export(session: Session) -> None:
    """Its import takes as long as all others together, and only .pt2 files need it."""
    assert "torch" in session.imported
    assert not {"bridge.exported_program", "torch.export.pt2_archive"} & session.imported


def test_verify_names_the_packages_of_jax(session: Session) -> None:
    assert session.verify.status == 2
    assert session.verify.out == ""
    assert (
        session.verify.err.splitlines(keepends=True)[-1]
        == "error: verify compares with JAX, which is not installed; install jax, flax and optax\n"
    )


def test_without_torch_one_line_names_the_extra(directory: Path, tmp_path: Path) -> None:
    name = str(directory)
    commands = [
        ["generate", name],
        ["verify", name],
        ["export", name, "-o", "x.pt"],
        ["serve", name, "--port", "0"],
    ]
    results, _ = run_commands(tmp_path, {"torch"}, commands)
    for command, result in zip(commands, results, strict=True):
        assert (result.status, result.out) == (2, ""), command
        assert result.err.startswith("error: cannot run this command: it needs the package torch")
        assert ".[bridge]" in result.err
        assert result.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
