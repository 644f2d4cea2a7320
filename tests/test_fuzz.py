"""Damaged files are read or refused in one line, quickly and in little memory."""

import ast
import random
from pathlib import Path
from typing import Any

import pytest

import train
from bridge import __main__ as bridge_main
from tests.support import bridge_targets, checkpoint_targets, data_targets, targets
from tests.support.commands import call
from tests.support.fuzzing import attack
from tests.support.imports import PACKAGE_FILES, path_from_root, read_imports, top_level_names
from tests.support.killing import FORK_SERVER
from valyrian_jax.cli.main import main

TARGETS = (
    targets.TARGETS | data_targets.TARGETS | bridge_targets.TARGETS | checkpoint_targets.TARGETS
)
COUNT = 1_000  # tests/bench/fuzz.py takes any --count


def check_target(name: str) -> None:
    """Check that a target refuses some inputs, and accepts some that get past its parser."""
    target = TARGETS[name]
    outcome = attack(name, target, max(10, round(COUNT * target.share)))
    assert outcome.refused
    assert outcome.accepted or name in ("pickled", "nanogpt")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TARGETS if name != "forged checkpoint"])
def test_damaged_files_are_read_or_refused(name: str) -> None:
    check_target(name)


def test_forged_checkpoints_are_read_or_refused() -> None:
    # orbax leaves unfinished tasks behind, which warn during garbage collection. In this process,
    # the warning would fail another test.
    process = FORK_SERVER.Process(target=check_target, args=("forged checkpoint",))
    process.start()
    process.join()
    assert process.exitcode == 0


# Target: the number of inputs, the program, and its arguments in the directory of the files.
COMMANDS: dict[str, tuple[int, Any, list[str]]] = {
    "tokenizer": (40, main, ["tokenizer", "encode", "tokenizer.json", "ids.txt"]),
    "token ids": (40, main, ["tokenizer", "decode", "whole.json", "ids.txt"]),
    "config": (40, train.main, ["--config", "config.toml", "--data.path", "none.txt"]),
    "metrics": (20, main, ["plot", "."]),
    "bundle": (20, bridge_main.main, ["generate", ".", "--max-new-tokens", "2"]),
    "foreign bundle": (40, bridge_main.main, ["generate", ".", "--max-new-tokens", "2", "--json"]),
    "metadata": (30, bridge_main.main, ["check", "m.pt"]),
    "gpt2": (40, bridge_main.main, ["import", ".", "-o", "imported"]),
    "gguf": (40, bridge_main.main, ["import", "model.gguf", "-o", "imported"]),
    "gguf check": (40, bridge_main.main, ["check", "model.gguf"]),
}


def write_damaged_files(name: str, number: int) -> None:
    """Write an input of a target, and the other files its command needs, to this directory."""
    target = TARGETS[name]
    files = {
        "whole.json": targets.make_bundle_files()["tokenizer.json"],
        "ids.txt": b"1 2",
        "config.toml": b"",
    }
    damaged = target.damage(random.Random(number), dict(target.make_files()))
    for file, content in ((files if name != "foreign bundle" else {}) | damaged).items():
        Path(file).write_bytes(content)


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_succeed_or_fail_with_one_line(
    name: str, tmp_path: Path, capfdbinary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, program, arguments = COMMANDS[name]
    statuses = set()
    for number in range(count):
        directory = tmp_path / str(number)
        directory.mkdir()
        monkeypatch.chdir(directory)
        write_damaged_files(name, number)
        status, _, error = call(program, capfdbinary, monkeypatch, *arguments)
        assert (status == 0 and not error) or (
            status == 2
            and error.startswith(b"error: ")
            and error.count(b"\n") == 1
            and error[:-1].decode().isprintable()
        ), f"{name} {number}: {status} {error!r}"
        statuses.add(status)
    assert 2 in statuses


@pytest.mark.parametrize("file", PACKAGE_FILES, ids=path_from_root)
def test_no_file_is_unpickled(file: Path) -> None:
    picklers = {"pickle", "cPickle", "cloudpickle", "joblib", "dill", "shelve", "marshal"}
    assert not top_level_names(read_imports(file)) & picklers
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            options = {option.arg: ast.unparse(option.value) for option in node.keywords}
            assert options.get("allow_pickle", "False") == "False", f"{file}, line {node.lineno}"
            if ast.unparse(node.func) == "torch.load":
                assert options.get("weights_only") == "True", f"{file}, line {node.lineno}"
