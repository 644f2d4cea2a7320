"""Files that somebody damaged: each is read, or refused in one line; soon, and in little memory."""

import ast
import random
from pathlib import Path
from typing import Any

import pytest

import train
from bridge import __main__ as bridge_main
from tests.support import bridge_targets, checkpoint_targets, fuzzing, targets
from tests.support.commands import call
from tests.support.killing import FORKING
from tests.test_imports import FILES, ROOT, imported, tops
from valyrian_jax import __main__ as main

TARGETS = targets.TARGETS | bridge_targets.TARGETS | checkpoint_targets.TARGETS
COUNT = 3_000


def attacked(name: str) -> None:
    target = TARGETS[name]
    found = fuzzing.attack(name, target, max(1, round(COUNT * target.share)))
    assert found.refused
    assert found.accepted or name == "pickled"  # else nothing reached what comes after parsing


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "forged checkpoint"])
def test_damaged_files_are_read_or_refused(name: str) -> None:
    attacked(name)


def test_forged_checkpoints_are_read_or_refused() -> None:
    # In a process of its own: what orbax leaves undone complains when it is collected, in whatever test that is.
    process = FORKING.Process(target=attacked, args=("forged checkpoint",))
    process.start()
    process.join()
    assert process.exitcode == 0


# Target -> how often, and the command lines that read its files, in their directory.
COMMANDS: dict[str, tuple[int, Any, list[str]]] = {
    "tokenizer": (40, main.main, ["tokenizer", "encode", "tokenizer.json", "ids.txt"]),
    "token ids": (40, main.main, ["tokenizer", "decode", "whole.json", "ids.txt"]),
    "config": (40, train.main, ["--config", "config.toml", "--data.path", "none.txt"]),
    "metrics": (20, main.main, ["plot", "."]),
    "bundle": (20, bridge_main.main, ["generate", ".", "--max-new-tokens", "2"]),
    "foreign bundle": (40, bridge_main.main, ["generate", ".", "--max-new-tokens", "2", "--json"]),
    "papers": (30, bridge_main.main, ["check", "m.pt"]),
    "gpt2": (40, bridge_main.main, ["import", ".", "-o", "imported"]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_end_in_one_line(
    name: str, tmp_path: Path, capfdbinary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, (count, entry, arguments) = TARGETS[name], COMMANDS[name]
    seen = set()
    for number in range(count):
        directory = tmp_path / str(number)
        directory.mkdir()
        monkeypatch.chdir(directory)
        others = {
            "whole.json": targets.bundle_files()["tokenizer.json"],
            "ids.txt": b"1 2",
            "config.toml": b"",
        }
        damaged = target.damage(random.Random(number), dict(target.whole()))
        for file, content in ((others if name != "foreign bundle" else {}) | damaged).items():
            Path(file).write_bytes(content)
        status, _, err = call(entry, capfdbinary, monkeypatch, *arguments)
        assert (status == 0 and not err) or (
            status == 2
            and err.startswith(b"error: ")
            and err.count(b"\n") == 1
            and err[:-1].decode().isprintable()
        ), f"{name} {number}: {status} {err!r}"
        seen.add(status)
    assert 2 in seen


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_nothing_is_unpickled(file: Path) -> None:
    assert not tops(imported(file)) & {
        "pickle",
        "cPickle",
        "cloudpickle",
        "joblib",
        "dill",
        "shelve",
        "marshal",
    }
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            options = {option.arg: ast.unparse(option.value) for option in node.keywords}
            assert options.get("allow_pickle", "False") == "False", f"{file}, line {node.lineno}"
            if ast.unparse(node.func) == "torch.load":
                assert options.get("weights_only") == "True", f"{file}, line {node.lineno}"
