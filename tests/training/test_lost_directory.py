"""A run whose directory is deleted, moved or replaced ends at its next write and says so."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import (
    assert_same_runs,
    load_tiny_config,
    make_text_console,
    resume,
    train_disturbed,
)
from valyrian_jax.errors import UserError
from valyrian_jax.run_directory import watch_directory
from valyrian_jax.training import best_weights, checkpoint
from valyrian_jax.training.run import TrainResult, train

GONE = "the run ended because its directory is gone: expected .*/run to stay in its place"


def delete(run: Path) -> None:
    shutil.rmtree(run)


def move(run: Path) -> None:
    run.rename(run.with_name("moved"))


def replace(run: Path) -> None:
    """Move the run, and put another directory in its place."""
    move(run)
    shutil.copytree(run.with_name("moved"), run)


@pytest.mark.parametrize("step", [30, 40])  # At 40 the bundle and a checkpoint are written.
@pytest.mark.parametrize("disturb", [delete, move, replace])
def test_nothing_is_written_where_the_directory_was(
    disturb: Callable[[Path], None], step: int, small_text: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    contents: list[set[Path]] = []

    def disturb_and_list() -> None:
        disturb(run)
        contents.append({*tmp_path.rglob("*")})

    with pytest.raises(UserError, match=GONE):
        train_disturbed(load_tiny_config(small_text), run, step, disturb_and_list)
    assert {*tmp_path.rglob("*")} == contents[0]


@pytest.mark.slow
def test_a_moved_run_resumes_where_it_is(
    finished: TrainResult, small_text: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(UserError, match=GONE):
        train_disturbed(load_tiny_config(small_text), run, 50, lambda: move(run))
    resume(tmp_path / "moved")
    assert_same_runs(tmp_path / "moved", finished.directory)


@pytest.mark.parametrize(("module", "name"), [(best_weights, "save_bundle"), (checkpoint, "save")])
def test_a_directory_that_goes_between_the_look_and_the_write_is_not_recreated(
    module: Any, name: str, small_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, write = tmp_path / "run", getattr(module, name)

    def delete_and_write(*arguments: object) -> None:
        if (run / "config.toml").exists():
            delete(run)
        write(*arguments)

    monkeypatch.setattr(module, name, delete_and_write)
    with pytest.raises(UserError, match=GONE):
        train(load_tiny_config(small_text), run, console=make_text_console())
    assert not run.exists()


def test_a_directory_that_is_reached_by_another_path_is_the_same(tmp_path: Path) -> None:
    run, link = tmp_path / "run", tmp_path / "link"
    run.mkdir()
    link.symlink_to(run)
    with watch_directory(link) as check:
        check()
        run.rename(tmp_path / "moved")
        link.unlink()
        link.symlink_to(tmp_path / "moved")
        check()
        link.unlink()
        with pytest.raises(UserError, match="its directory is gone"):
            check()
