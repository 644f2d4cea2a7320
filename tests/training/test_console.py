"""A run must not end because of its output: no reader, no space, or an encoding without letters."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.runs import ROOT, load_tiny_config
from valyrian_jax.config import config_to_toml
from valyrian_jax.training.console import make_console, print_line, warn


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [("ascii", "?? vala ? ?\n"), ("latin-1", "?ÿ vala ? ?\n"), ("utf-8", "ȳÿ vala 語 ?\n")],
)
def test_letters_that_the_output_lacks_become_question_marks(encoding: str, printed: str) -> None:
    output = io.BytesIO()
    console = Console(file=io.TextIOWrapper(output, encoding=encoding, newline=""))
    print_line(console, "ȳÿ vala 語 \udcff")
    assert output.getvalue().decode(encoding) == printed


def test_a_full_disk_under_the_output_is_reported_once(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", full)
        console = make_console(quiet=False)
        for _ in range(3):
            print_line(console, "text")
    assert capfd.readouterr().err == (
        "cannot print: No space left on device; the run continues without output\n"
    )


def test_a_closed_output_and_closed_errors_are_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as broken:
        monkeypatch.setattr(sys, "stdout", broken)
        monkeypatch.setattr(sys, "stderr", broken)
        print_line(make_console(quiet=False), "text")
        warn("text")
    monkeypatch.setattr(sys, "stdout", None)  # as in a process that was started with >&-
    print_line(make_console(quiet=False), "text")


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_a_full_disk_ends_a_run_in_one_line_unless_debugging(
    debug: list[str], small_text: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(config_to_toml(load_tiny_config(small_text)), encoding="utf-8")
    train = f"train.py --config {config} --out {tmp_path / 'run'} {' '.join(debug)}"
    process = subprocess.run(
        ["bash", "-c", f"ulimit -f 50; exec {sys.executable} {train}"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    if debug:
        assert process.stderr.count("Traceback") > 2  # Those of orbax's threads, and ours.
    else:
        assert process.returncode == 2
        assert process.stderr.startswith("error: cannot write checkpoint ")
        assert process.stderr.count("\n") == 1
