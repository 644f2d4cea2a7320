"""A run of the real program, and a function that runs `python -m valyrian_jax`."""

import functools
from pathlib import Path

import pytest

from tests.support.commands import RunMain, call, start_training
from valyrian_jax.cli.main import main


@pytest.fixture(scope="package")
def run(small_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the real program, under runs/ of an otherwise empty directory."""
    home = tmp_path_factory.mktemp("home")
    process = start_training(home, small_text, "runs/first", "--deterministic")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    for line in (
        "device    cpu",
        "parameters",
        "weight decay 0.1 on",
        "held-out loss",
        "bits per byte",
        "next      python -m",
    ):
        assert line in out
    return home / "runs" / "first"


@pytest.fixture
def run_main(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunMain:
    """Return a function that runs `python -m valyrian_jax` with arguments."""
    return functools.partial(call, main, capsys, monkeypatch)
