"""A resume that cannot give the same run is refused and changes nothing."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import ROOT, load_tiny_config, make_text_console, resume
from valyrian_jax.errors import UserError
from valyrian_jax.files import lock_directory
from valyrian_jax.training import checkpoint
from valyrian_jax.training.resume import check_unchanged, describe_changes
from valyrian_jax.training.run import TrainResult, train

# A shell prefix; root may read and write everything without it.
DROP_PRIVILEGES = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.n_layer", 3),
        ("optim.lr", 1.0),
        ("train.seed", 3),
        ("data.held_out", 0.1),
        ("data.separator", "--"),
    ],
)
def test_a_resumed_run_refuses_a_changed_setting(key: str, value: Any, copy: Path) -> None:
    expected = f"cannot change {key} of a resumed run: expected .*, found {value!r}; leave it"
    with pytest.raises(UserError, match=expected):
        resume(copy, **{key: value})


def test_a_setting_that_an_old_checkpoint_lacks_had_its_default(copy: Path) -> None:
    saved = checkpoint.find_newest(copy / "checkpoints").metadata
    data = {key: value for key, value in saved.config["data"].items() if key != "separator"}
    old = replace(saved, config=saved.config | {"data": data})
    check_unchanged(saved, old, copy)
    assert describe_changes(saved, old) == []
    current = replace(saved, config=saved.config | {"data": data | {"separator": "--"}})
    with pytest.raises(UserError, match=r"cannot change data.separator.*expected 'blank line'"):
        check_unchanged(current, old, copy)


def list_files(directory: Path) -> dict[Path, tuple[int, int]]:
    """Return size and time of every file of a run, except the lock."""
    files = (file for file in directory.rglob("*") if file.name != "lock")
    return {file: (file.stat().st_size, file.stat().st_mtime_ns) for file in files}


@pytest.mark.parametrize(
    "overrides",
    [
        {"train.steps": 10},
        {"train.steps": 59, "train.eval_every": 10},
        {"train.steps": 100, "model.n_layer": 3},
        {"train.eval_every": 10, "optim.lr": 1.0},
    ],
)
def test_a_refused_resume_changes_nothing(
    overrides: dict[str, Any], copy: Path, finished: TrainResult
) -> None:
    before = list_files(copy)
    expected = "cannot resume .* with train.steps = .*: expected at least the 60 |cannot change"
    with pytest.raises(UserError, match=expected):
        resume(copy, **overrides)
    assert list_files(copy) == before
    assert resume(copy).progress == finished.progress


def resume_without_privileges(run: Path) -> tuple[int, str]:
    """Resume a run in a process that obeys the permissions of files, as root does not."""
    command = [sys.executable, str(ROOT / "train.py"), f"--resume={run}"]
    process = subprocess.run(
        [*DROP_PRIVILEGES, *command], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    return process.returncode, process.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "name", ["checkpoints", "checkpoints/60/state", "checkpoints/60/record.json"]
)
def test_what_may_not_be_read_is_not_damaged(name: str, copy: Path, finished: TrainResult) -> None:
    before, mode = list_files(copy), (copy / name).stat().st_mode
    (copy / name).chmod(0)
    status, error = resume_without_privileges(copy)
    (copy / name).chmod(mode)
    assert status == 2
    assert re.match(
        f"error: cannot read the checkpoints: .*/{name}.*: Permission denied; nothing was changed",
        error,
    )
    assert list_files(copy) == before
    assert resume(copy).progress == finished.progress


def test_a_read_only_run_is_refused_by_what_it_cannot_save(copy: Path) -> None:
    before = list_files(copy)
    (copy / "lock").unlink()
    copy.chmod(0o555)
    status, error = resume_without_privileges(copy)
    copy.chmod(0o755)
    assert status == 2
    expected = f"error: cannot write the directory {copy}: Permission denied; a resumed run saves "
    assert error.startswith(expected)
    assert "--out" not in error
    assert list_files(copy) == before


def test_a_resumed_run_refuses_a_changed_tokenizer(copy: Path) -> None:
    file = copy / "tokenizer.json"
    file.write_text(file.read_text() + " ")
    with pytest.raises(UserError, match="tokenizer.json has changed since"):
        resume(copy)


def test_the_text_of_a_resumed_run_may_move_but_not_change(
    copy: Path, small_text: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved.txt"
    moved.write_text(small_text.read_text() + "\n\nmore.")
    with pytest.raises(UserError, match="moved.txt has changed since"):
        resume(copy, **{"data.path": str(moved)})
    shutil.copy(small_text, moved)
    assert resume(copy, **{"data.path": str(moved)}).steps == 60


def test_a_run_refuses_a_directory_that_another_process_trains_in(
    finished: TrainResult, small_text: Path, tmp_path: Path
) -> None:
    expected = "another process is training in"
    with lock_directory(finished.directory), pytest.raises(UserError, match=expected):
        resume(finished.directory)
    with lock_directory(tmp_path / "new"), pytest.raises(UserError, match=expected):
        train(load_tiny_config(small_text), tmp_path / "new", console=make_text_console())
