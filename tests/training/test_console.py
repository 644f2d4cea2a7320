"""A run must not end because of its output: no reader, no space, or an encoding without letters."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.runs import ROOT, load_tiny_config
from valyrian_jax.bundle.shipped_model import EXAMPLE_OPTIONS
from valyrian_jax.config import config_to_toml, load_config
from valyrian_jax.data.dataset import open_dataset
from valyrian_jax.evaluation.evaluate import Evaluation
from valyrian_jax.training.console import (
    make_console,
    print_evaluation,
    print_line,
    progress_bar,
    suggest_options,
    warn,
)
from valyrian_jax.training.run import train


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
        ["bash", "-c", f"ulimit -f 20; exec {sys.executable} {train}"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    if debug:
        assert process.stderr.count("Traceback") >= 2  # ours, and those of orbax's threads
    else:
        assert process.returncode == 2
        assert process.stderr.startswith("error: cannot write checkpoint ")
        assert process.stderr.count("\n") == 1


def test_lines_break_between_words_at_80_columns_without_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_line(make_console(quiet=False), f"corpus    {'word ' * 30}/a/very/{'long' * 20}/path", 10)
    lines = capsys.readouterr().out.splitlines()
    assert [len(line) <= 80 for line in lines] == [True, True, True, False]
    assert all(line.startswith(" " * 10) for line in lines[1:])
    assert lines[3].strip() == f"/a/very/{'long' * 20}/path"


def test_an_evaluation_fits_into_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    console = make_console(quiet=False)
    print_evaluation(console, 800, 1.68, Evaluation(1.63, 1.01), is_best=True)
    assert capsys.readouterr().out == (
        "step    800  train 1.6800  held-out 1.6300 nats/token, 1.0100 bits/byte  (best)\n"
    )


def test_the_bar_says_what_the_run_does() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=120)
    with progress_bar(console, 20, 0) as bar:
        assert "compiling" in output.getvalue() or not output.getvalue()
        bar.update(10, {"train/loss": 1.0, "train/tokens_per_second": 1.0})
        with bar.name_activity("evaluating"):
            pass
    bars = re.findall(r"(compiling|evaluating|training).*?(\d+/20)", output.getvalue())
    drawn = [bar for bar in dict.fromkeys(bars) if bar != ("training", "10/20")]
    assert drawn == [("compiling", "0/20"), ("evaluating", "10/20")]
    assert bars[-1] == ("training", "10/20")
    assert "loss 1.000" in output.getvalue()


def test_a_run_names_its_activities_and_the_step_of_a_sample(
    small_text: Path, tmp_path: Path
) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=120)
    config = load_tiny_config(small_text, **{"train.steps": 20, "train.sample_every": 20})
    train(config, tmp_path / "run", console=console)
    shown = output.getvalue()
    for activity in ("evaluating", "sampling", "saving"):
        assert re.search(rf"{activity}.*20/20", shown), activity
    [first_word] = re.findall(r"step     20  sample  (\S+)", shown)
    assert first_word in (tmp_path / "run" / "samples.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("The dragon sees a wolf.\n\n" * 200, "--prompt 'The dragon sees'"),
        ("def f(x):\n    return x\n\n" * 200, "--prompt 'def f(x): return'"),
        ("龍見狼。\n\n" * 400, "--prompt '龍見狼。'"),
        ("it's $HOME\n\n" * 300, """--prompt 'it'"'"'s $HOME'"""),
        ("x" * 400 + " y\n\n", f"--prompt {'x' * 30}"),
    ],
    ids=["prose", "code", "Chinese", "quotes", "a long word"],
)
def test_the_suggested_prompt_is_of_the_runs_own_text(
    text: str, options: str, tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text(text if "x" * 400 not in text else text * 40)
    overrides = {
        "data.path": str(tmp_path / "text.txt"),
        "model.vocab_size": 257,
        "model.n_positions": 64,
    }
    config = load_config("tiny", overrides)
    assert suggest_options(open_dataset(config, None, tmp_path)) == options


def test_the_suggested_prompt_is_high_valyrian_for_the_shipped_corpus(tmp_path: Path) -> None:
    assert suggest_options(open_dataset(load_config("tiny"), None, tmp_path)) == EXAMPLE_OPTIONS
