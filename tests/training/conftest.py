"""A finished run that the tests of this room share."""

import shutil
from pathlib import Path

import pytest

from tests.support.runs import load_tiny_config, make_text_console
from valyrian_jax.training.run import TrainResult, train


@pytest.fixture(scope="session")
def finished(small_text: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    directory = tmp_path_factory.mktemp("runs") / "finished"
    return train(load_tiny_config(small_text), directory, console=make_text_console())


@pytest.fixture
def copy(finished: TrainResult, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return shutil.copytree(finished.directory, tmp_path / "copy")
