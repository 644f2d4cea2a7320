"""Which directory a run may take, and which run a command takes."""

import os
import shutil
from pathlib import Path
from typing import Any

import click
import pytest

from tests.support.commands import call
from valyrian_jax.bundle.shipped_model import SHIPPED_HINT, SHIPPED_MODEL
from valyrian_jax.cli.main import main
from valyrian_jax.cli.run_options import run_argument
from valyrian_jax.errors import UserError
from valyrian_jax.run_directory import choose_directory, find_bundle, find_run
from valyrian_jax.training.start_options import resolve_start


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["thesis.tex"], "thesis.tex"),
        (["train.log", "notes.md"], "notes.md"),
        (["bundle/model.safetensors"], "bundle"),  # A bundle, or a run without its config.toml.
        (["checkpoints/20/record.json"], "checkpoints"),
        (["a", "b", "c", "d", "e"], "a, b, c and 2 more"),
        (["x.log/file"], "x.log"),
    ],
)
def test_a_directory_with_files_is_refused_by_naming_them(
    names: list[str], found: str, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UserError) as refusal:
        choose_directory(tmp_path)
    assert str(refusal.value) == (
        f"cannot start a run in {tmp_path}: expected a new or empty directory, found {found}; "
        "choose another --out"
    )


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["train.log"],
        ["slurm-1234.out", "slurm-1234.err"],
        ["log.txt"],
        ["log"],
        ["lock", "tokenizer.json", "checkpoints/0/record.json", "run.log"],  # A start was killed.
    ],
)
def test_a_directory_may_hold_the_log_of_its_job(names: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert choose_directory(tmp_path) == tmp_path


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs `a`, `b` and `c`, with weights, and newer `d` and `e` without; f is no run."""
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate("abcdef"):
        run = Path("runs", name)
        run.mkdir(parents=True)
        if name in "abc":
            bundle = run / ("bundle.previous" if name == "c" else "bundle")
            bundle.mkdir()
            (bundle / "manifest.json").touch()
        if name != "f":
            (run / "config.toml").touch()
            os.utime(run / "config.toml", (i, i))
    return Path("runs")


def test_the_newest_run_is_the_newest_with_weights(runs: Path) -> None:
    assert find_run(None) == runs / "c"
    assert find_bundle(None) == (runs / "c" / "bundle.previous").resolve()
    os.utime(runs / "a" / "config.toml", (9, 9))
    assert find_bundle(None) == runs / "a" / "bundle"


def test_without_weights_the_runs_are_counted(runs: Path) -> None:
    for name in ("a/bundle", "b/bundle", "c/bundle.previous"):
        shutil.rmtree(runs / name)
    with pytest.raises(UserError, match="no run with weights under runs/: .* found 6 entries"):
        find_run(None)


def test_a_command_says_which_run_it_takes_unless_it_is_named(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command
    @run_argument
    def show(run: Path) -> None:
        click.echo(run)

    taken = (0, "runs/c\n", f"using the newest run with weights: runs/c; {SHIPPED_HINT}\n")
    assert call(show, capsys, monkeypatch) == taken
    assert call(show, capsys, monkeypatch, "runs/d") == (0, "runs/d\n", "")


@pytest.mark.parametrize("arguments", [["plot"], ["plot", "--attention", "--prompt", "a"]])
def test_plot_says_which_run_it_takes(
    arguments: list[str],
    runs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status, _, err = call(main, capsys, monkeypatch, *arguments)
    assert status == 2  # It has no losses and no weights.
    assert err.startswith(f"using the newest run with weights: runs/c; {SHIPPED_HINT}\nerror: ")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a", "did you mean runs/a?"),
        ("runs/aa", "did you mean runs/a?"),
        ("runs/aa/bundle", "did you mean runs/a/bundle?"),
        ("shiped", "did you mean shipped?"),
        ("nothing like it", "name another"),
        ("two\nlines", r"two\nlines is not a run directory"),
        ("long text " * 1000, "long text ... is not a run directory"),
        ("nul\0", "name another"),
        ("runs/a/config.toml/x", "expected a run or a bundle, found none of this name"),
    ],
)
@pytest.mark.parametrize("find", [find_run, find_bundle])
def test_a_run_that_is_not_there_is_answered_with_the_nearest(
    name: str, advice: str, find: Any, runs: Path
) -> None:
    with pytest.raises(UserError) as refusal:
        find(Path(name))
    message = str(refusal.value)
    assert advice in message
    assert message.endswith(f"({SHIPPED_HINT})")
    assert "\n" not in message
    assert len(message) < 400


def test_shipped_is_the_model_that_ships_unless_a_file_has_this_name(runs: Path) -> None:
    assert find_bundle(Path("shipped")) == SHIPPED_MODEL
    (runs / "a").rename("shipped")
    assert find_bundle(Path("shipped")) == Path("shipped/bundle")
    assert find_run(Path("shipped")) == Path("shipped")


@pytest.mark.parametrize("arguments", [["eval"], ["plot", "--lens", "--prompt", "a"], ["sample"]])
def test_every_command_takes_the_model_that_ships_by_its_name(
    arguments: list[str],
    runs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("text.txt").write_text("Valar morghūlis.", encoding="utf-8")
    options = {"eval": ["--text", "text.txt"], "sample": ["--max-new-tokens", "2"]}
    command = [*arguments, "shipped", *options.get(arguments[0], [])]
    status, out, err = call(main, capsys, monkeypatch, *command)
    assert (status, err) == (0, "")
    assert out


def test_a_run_starts_from_the_model_that_ships(runs: Path) -> None:
    assert resolve_start({}, init="shipped").init == SHIPPED_MODEL
    assert resolve_start({}, init="runs/a").init == runs / "a" / "bundle"
    with pytest.raises(UserError, match="no/bundle is not a run .*`shipped` is the model"):
        resolve_start({}, init="no/bundle")


@pytest.mark.parametrize("command", ["sample -", "eval -", "plot -"])
def test_tab_completion_prints_nothing_else(
    command: str,
    runs: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("_PROGRAM_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"program {command}")
    monkeypatch.setenv("COMP_CWORD", "2")
    with pytest.raises(SystemExit):
        main.main(prog_name="program")
    out, err = capfd.readouterr()
    assert err == ""
    assert "plain,--prompt" in out or "plain,--text" in out
