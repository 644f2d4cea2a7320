"""The commands as a user meets them: every mistake ends in one line."""

import functools
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import train
from tests.support.commands import (
    ROOT,
    RunMain,
    assert_one_line_error,
    call,
)
from valyrian_jax.cli.entry_point import describe_missing_package, run_command
from valyrian_jax.cli.main import main
from valyrian_jax.tokenizer import train_bpe


def test_tokenizer_commands_return_any_bytes_unchanged(
    small_text: Path,
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_tokenizer: Any = functools.partial(call, main, capfdbinary, monkeypatch, "tokenizer")
    vocabulary, ids, binary = (tmp_path / name for name in ("tokenizer.json", "ids.txt", "any.bin"))
    binary.write_bytes(bytes(range(256)) * 3)
    assert run_tokenizer("train", small_text, "--vocab-size", 270, "-o", vocabulary)[0] == 0
    status, out, _ = run_tokenizer("encode", vocabulary, binary)
    assert status == 0
    ids.write_bytes(out)
    assert run_tokenizer("decode", vocabulary, ids)[1] == binary.read_bytes()


COMMAND_MISTAKES: list[tuple[list[str], str]] = [
    (["sample", "nowhere"], "nowhere is not a run directory"),
    (["plot"], "no run with weights under runs/: expected a directory with a bundle, found 0"),
    (["sample", "--top-p", "0"], "Invalid value for '--top-p'"),
    (["sampel"], "No such command 'sampel'. Did you mean 'sample'?"),
    (["serve"], "No such command 'serve'. Use `valyrian-bridge serve`."),
    (
        ["--seed", "9", "sample"],
        "No such option '--seed'. Put it after the command: `sample --seed`",
    ),
    (["--verison"], "No such option '--verison'. Did you mean --version?"),
    (["--xyzzy", "9", "sample"], "No such option '--xyzzy'.\n"),
    (["corpus", "--sentences", "0"], "Invalid value for '--sentences'"),
    (["corpus", "--sentences", "2", "-o", "/dev/null/x"], "Not a directory"),
    (["tokenizer", "encode", "none.json", "none.txt"], "none.json"),
    (["tokenizer", "decode", "t.json", "ids.txt"], "'abc' is not a token id"),
    (["tokenizer", "decode", "t.json", "far.txt"], "token id 999 is outside the vocabulary"),
    (["tokenizer", "decode", "t.json", "bytes.txt"], "is not a token id"),
    (["tokenizer", "decode", "t.json", "long.txt"], "is not a token id"),
    (
        ["tokenizer", "train", "text.txt", "--vocab-size", "258", "-o", "."],
        "cannot write .: it is a directory",
    ),
    (["corpus", "--sentences", "2", "-o", "/"], "cannot write /: it is a directory"),
    (["corpus", "--seed", "-1"], "Invalid value for '--seed'"),
    (
        ["sample", "bundle", "--temperature", "1e-9"],
        "temperature = 1e-09: must be 0 or at least 0.001",
    ),
    (["tokenizer", "train", "none.txt"], "cannot read the text none.txt"),
    (["tokenizer", "train", "/dev/zero"], "expected a file or a pipe, found a device"),
    (["tokenizer", "encode", "t.json", "/dev/zero"], "expected a file or a pipe, found a device"),
    (["tokenizer", "decode", "t.json", "/dev/zero"], "expected a file or a pipe, found a device"),
    (["check", "/dev/zero"], "expected a file or a pipe, found a device"),
    (["tokenizer", "train", "text.txt", "--separator", "re:("], "is not a regular expression"),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    COMMAND_MISTAKES,
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_mistakes_in_commands_end_in_one_line(
    arguments: list[str],
    message: str,
    run: Path,
    tmp_path: Path,
    run_main: RunMain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.json").write_bytes((run / "tokenizer.json").read_bytes())
    Path("ids.txt").write_text("1 2 abc")
    Path("far.txt").write_text("999")
    Path("bytes.txt").write_bytes(b"1 \xff")
    Path("long.txt").write_text("1" * 5000)
    Path("text.txt").write_text("abab abab")
    Path("bundle").symlink_to(run / "bundle")
    status, _, err = run_main(*arguments)
    assert status == 2
    assert_one_line_error(err, message)


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--debug", "--data.path", "none.txt"])
    with pytest.raises(Exception, match="cannot read the text none.txt"):
        run_command(train.main)


def test_a_missing_module_that_the_project_does_not_require_is_a_fault_of_the_code() -> None:
    assert describe_missing_package("valyrian_jax.nonsense") is None
    assert describe_missing_package("torch._C") is None  # torch is there, and broken


@pytest.mark.parametrize(
    "arguments",
    [["check"], ["tokenizer", "encode", "t.json"], ["tokenizer", "decode", "t.json"]],
    ids="-".join,
)
def test_closed_standard_input_ends_in_one_line(arguments: list[str], tmp_path: Path) -> None:
    train_bpe("aaab", 257).save(tmp_path / "t.json")
    command = shlex.join([sys.executable, "-m", "valyrian_jax", *arguments])
    ended = subprocess.run(
        ["bash", "-c", f"{command} <&-"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert_one_line_error(ended.stderr, "standard input is closed; expected a text")
