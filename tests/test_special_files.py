"""A FIFO, a device or a directory in place of a file of a bundle or a run: one line, at once."""

import importlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

import train
from bridge.__main__ import main as bridge_main
from tests.support.commands import call
from tests.support.fuzzing import limit_memory, limit_time
from tests.support.targets import make_bundle_files
from valyrian_jax.bundle.bundle import load_bundle
from valyrian_jax.cli.main import main
from valyrian_jax.config import Config
from valyrian_jax.data.corpus_entropy import load_source
from valyrian_jax.errors import UserError
from valyrian_jax.plots.curves import save_loss_plot
from valyrian_jax.run_directory import load_run_config, read_metrics, truncate_logs
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.training import checkpoint
from valyrian_jax.training.metrics import MetricsLogger

RUN = Path(__file__).parent / "artifacts" / "0.1.0" / "run"
REPLACE: dict[str, Callable[[Path], None]] = {
    "FIFO": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "directory": Path.mkdir,
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A run with its bundle."""
    return shutil.copytree(RUN, tmp_path / "run")


def replace(kind: str, path: Path) -> None:
    path.unlink()
    REPLACE[kind](path)


def assert_refused(read: Callable[..., Any], *arguments: Any) -> None:
    with limit_memory(), limit_time(), pytest.raises(UserError):
        read(*arguments)


@pytest.mark.parametrize("kind", REPLACE)
@pytest.mark.parametrize("name", sorted({*make_bundle_files()} - {"README.md"}))  # not read
def test_in_a_bundle(name: str, kind: str, directory: Path) -> None:
    bundle = directory / "bundle"
    replace(kind, bundle / name)
    assert_refused(load_bundle, bundle)
    if name in ("config.json", "model.safetensors", "tokenizer.json"):  # as others write them
        (bundle / "manifest.json").unlink()
        assert_refused(load_bundle, bundle)


@pytest.mark.parametrize("kind", REPLACE)
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("config.toml", load_run_config),
        ("tokenizer.json", lambda run: Tokenizer.load(run / "tokenizer.json")),
        ("metrics.jsonl", lambda run: list(read_metrics(run))),
        ("metrics.jsonl", lambda run: truncate_logs(run, 3)),
        ("metrics.jsonl", lambda run: MetricsLogger(run, Config())),
        ("samples.txt", lambda run: truncate_logs(run, 3)),
        ("checkpoints/20/record.json", lambda run: checkpoint.find_newest(run / "checkpoints")),
        ("checkpoints/20/sha256.json", lambda run: checkpoint.find_newest(run / "checkpoints")),
        (
            "checkpoints/20/state/manifest.ocdbt",
            lambda run: checkpoint.find_newest(run / "checkpoints"),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_in_a_run(name: str, read: Callable[[Path], Any], kind: str, directory: Path) -> None:
    replace(kind, directory / name)
    assert_refused(read, directory)


@pytest.mark.parametrize("kind", REPLACE)
def test_in_place_of_a_plot_of_a_run_or_of_the_source_of_a_text(kind: str, directory: Path) -> None:
    REPLACE[kind](directory / "loss.svg")
    assert_refused(save_loss_plot, directory)
    REPLACE[kind](directory / "text.source.json")
    assert_refused(load_source, directory / "text.txt", "0" * 64)


@pytest.mark.parametrize("kind", REPLACE)
@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        (bridge_main, ["check", "model.pt"]),
        (bridge_main, ["check", "model.pt2"]),
        (bridge_main, ["check", "model.gguf"]),
        (bridge_main, ["import", "model.gguf", "-o", "out"]),
        (bridge_main, ["import", "gpt2", "-o", "out"]),
        (bridge_main, ["import", "torch", "-o", "out"]),
        (main, ["tokenizer", "decode", "vocabulary.json"]),
        (train.main, ["--data.tokenizer", "vocabulary.json", "--data.path", "text.txt"]),
        (train.main, ["--resume", "run"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_in_place_of_an_input(
    program: click.Command,
    arguments: list[str],
    kind: str,
    tmp_path: Path,
    directory: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("model.pt", "model.pt2", "model.gguf", "vocabulary.json"):
        REPLACE[kind](tmp_path / name)
    for name, weights in (("gpt2", "model.safetensors"), ("torch", "pytorch_model.bin")):
        shutil.copytree(directory / "bundle", name)
        (tmp_path / name / "model.safetensors").unlink()
        REPLACE[kind](tmp_path / name / weights)
    Path("text.txt").write_text("some words\n\n" * 30)
    replace(kind, directory / "config.toml")
    for module in ("bridge.exported_program", "bridge.torchscript", "bridge.gguf.export"):
        importlib.import_module(module)  # outside of the time limit
    with limit_time(), limit_memory():
        status, out, err = call(program, capsys, monkeypatch, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert not Path("out").exists()
