"""A run is found by its files, and its logs are read a line at a time."""

import json
import os
import shutil
import tracemalloc
from pathlib import Path

import pytest

from tests.support.fuzzing import limit_memory, limit_time
from valyrian_jax.errors import UserError
from valyrian_jax.plots.curves import TRAIN, read_curves
from valyrian_jax.run_directory import (
    choose_directory,
    find_bundle,
    load_run_bundle,
    read_metrics,
    remove_leftovers,
    truncate_logs,
)

RUN = Path(__file__).parent / "artifacts" / "0.1.0" / "run"


def test_leftovers_of_a_killed_start_do_not_make_a_directory_a_run(tmp_path: Path) -> None:
    for name in ("tokenizer.json", "metrics.jsonl", "config.toml"):
        (tmp_path / f".{name}.{'a' * 16}.partial").touch()
    (tmp_path / "lock").touch()
    assert choose_directory(tmp_path) == tmp_path
    (tmp_path / ".notes.partial").touch()
    with pytest.raises(UserError, match="found .notes.partial; choose another --out"):
        choose_directory(tmp_path)
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"lock", ".notes.partial"}


@pytest.mark.parametrize("name", [f".bundle.{'a' * 16}.previous", "bundle.previous"])
@pytest.mark.parametrize("is_link", [False, True])
def test_the_bundle_before_a_killed_save_is_found(name: str, is_link: bool, tmp_path: Path) -> None:
    run = shutil.copytree(RUN, tmp_path / "run")
    directory = tmp_path / "disk" if is_link else run
    directory.mkdir(exist_ok=True)
    (run / "bundle").rename(directory / name)
    if is_link:
        (run / "bundle").symlink_to(directory / "bundle")
    assert find_bundle(run) == directory / name
    assert load_run_bundle(run).manifest["step"] == 20


def write_metrics(run: Path, lines: int) -> None:
    with (run / "metrics.jsonl").open("w") as file:
        for step in range(lines):
            file.write(json.dumps({"step": step, TRAIN: 1 / (step + 1)}) + "\n")
            file.write(json.dumps({"step": step, "samples": ["text " * 1000]}) + "\n")


def test_long_logs_are_read_in_little_memory(tmp_path: Path) -> None:
    write_metrics(tmp_path, 2000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_metrics(tmp_path)) == 4000
        assert len(read_curves(tmp_path).points[TRAIN][0]) == 2000
        truncate_logs(tmp_path, 1499)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000  # of 10 MB
    finally:
        tracemalloc.stop()
    assert [record["step"] for record in read_metrics(tmp_path)][-1] == 1499
    assert (tmp_path / "samples.txt").read_text().count("=== step") == 1500


def test_a_line_that_never_ends_is_refused(tmp_path: Path) -> None:
    write_metrics(tmp_path, 1)
    os.truncate(tmp_path / "metrics.jsonl", 10**10)
    with limit_memory(), limit_time(), pytest.raises(UserError, match="has a line of more than"):
        list(read_metrics(tmp_path))


@pytest.mark.parametrize("end", ["", "\n", '{"step": 9', '{"step": 9, "a": 1}'])
def test_a_last_line_that_was_cut_short_is_left_out(end: str, tmp_path: Path) -> None:
    write_metrics(tmp_path, 1)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(end)
    steps = [record["step"] for record in read_metrics(tmp_path)]
    assert steps == [0, 0, 9] if end.endswith("}") else steps == [0, 0]
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('\n{"step": 10}\n')
    if end not in ("", '{"step": 9, "a": 1}'):
        with pytest.raises(UserError, match="expected a JSON object with a step in line 3"):
            list(read_metrics(tmp_path))
