"""A run whose text this version splits in another way: neither `--resume` nor `eval` uses it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import resume
from valyrian_jax.errors import UserError
from valyrian_jax.evaluation.report import evaluate_run
from valyrian_jax.files import sha256_of_file
from valyrian_jax.training.checkpoint import find_newest
from valyrian_jax.training.run import TrainResult

Change = Callable[[dict[str, Any]], None]
PROBLEM = r"the split of .* is not that of .*: expected .* held-out token.*, found .*; train again"


@pytest.fixture
def copy(finished: TrainResult, tmp_path: Path) -> Path:
    return shutil.copytree(finished.directory, tmp_path / "copy")


def rewrite(run: Path, change: Change) -> None:
    """Rewrite the records of a run as another version would have written them."""
    checkpoint = find_newest(run / "checkpoints").path
    record = json.loads((checkpoint / "record.json").read_text(encoding="utf-8"))
    change(record)
    (checkpoint / "record.json").write_text(json.dumps(record), encoding="utf-8")
    hashes = json.loads((checkpoint / "sha256.json").read_text(encoding="utf-8"))
    hashes["record.json"] = sha256_of_file(checkpoint / "record.json")
    (checkpoint / "sha256.json").write_text(json.dumps(hashes), encoding="utf-8")
    manifest = json.loads((run / "bundle/manifest.json").read_text(encoding="utf-8"))
    change(manifest)
    (run / "bundle/manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def hold_out_other_tokens(record: dict[str, Any]) -> None:
    record["split"]["sha256"] = "0" * 64


def hold_out_more(record: dict[str, Any]) -> None:
    record["split"]["held_out_tokens"] *= 10


def forget(record: dict[str, Any]) -> None:
    del record["split"]


def forget_and_hold_out_other_bytes(record: dict[str, Any]) -> None:
    """Write what version 0.1 would have, had its held-out tokens been 1% longer."""
    forget(record)
    losses, name = record.get("progress"), "best_bits_per_byte"
    if losses is None:
        losses, name = record["held_out"], "bits_per_byte"
    losses[name] /= 1.01


@pytest.mark.parametrize(
    "change", [hold_out_other_tokens, hold_out_more, forget_and_hold_out_other_bytes]
)
def test_another_split_is_refused_and_nothing_is_written(copy: Path, change: Change) -> None:
    rewrite(copy, change)
    before = {file: file.read_bytes() for file in copy.rglob("*") if file.is_file()}
    with pytest.raises(UserError, match=PROBLEM):
        resume(copy, **{"train.steps": 70})
    with pytest.raises(UserError, match=PROBLEM):
        evaluate_run(copy)
    assert before == {file: file.read_bytes() for file in before}


def test_a_run_without_a_record_is_used_where_the_split_is_the_same(copy: Path) -> None:
    expected = evaluate_run(copy)
    rewrite(copy, forget)
    assert evaluate_run(copy) == expected
    assert resume(copy, **{"train.steps": 60}).steps == 60


def test_every_save_records_the_split(finished: TrainResult) -> None:
    record = find_newest(finished.directory / "checkpoints").metadata.split
    manifest = json.loads((finished.directory / "bundle/manifest.json").read_text(encoding="utf-8"))
    assert record is not None
    assert manifest["split"] == asdict(record)
    assert record.training_tokens > record.held_out_tokens > 100
