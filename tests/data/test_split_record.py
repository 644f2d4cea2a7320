"""The record of a split: what it depends on, and how another split is refused."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from valyrian_jax.data.split_record import SplitRecord, check_split, read_split, record_split
from valyrian_jax.data.windows import EvalSet, make_eval_windows
from valyrian_jax.errors import UserError

TOKENS = np.random.default_rng(0).integers(0, 300, 101).astype(np.uint16)
RECORD = SplitRecord(2000, 100, 230, "a" * 64)
NATS = 1.5
BITS = NATS * 100 / 230 / math.log(2)  # bits per byte of RECORD with this loss


def record(tokens: np.ndarray, batch_size: int = 4, length: int = 8) -> SplitRecord:
    return record_split(2000, EvalSet(make_eval_windows(tokens, batch_size, length), 230))


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_record_does_not_depend_on_the_batches(batch_size: int) -> None:
    assert record(TOKENS, batch_size) == record(TOKENS)


def test_a_record_depends_on_every_predicted_token() -> None:
    assert record(TOKENS).held_out_tokens == 100
    records = {record(TOKENS).sha256}
    for i in (1, 50, 100):
        changed = TOKENS.copy()
        changed[i] += 1
        records.add(record(changed).sha256)
    assert len(records) == 4


@pytest.mark.parametrize(
    "current",
    [
        replace(RECORD, training_tokens=2001),
        replace(RECORD, held_out_tokens=101),
        replace(RECORD, text_bytes=1),
        replace(RECORD, sha256="b" * 64),
    ],
    ids=["training", "held-out", "bytes", "content"],
)
def test_another_split_is_refused(current: SplitRecord) -> None:
    check_split(RECORD, RECORD, (NATS, BITS), "a.txt", "runs/a")
    with pytest.raises(UserError, match=r"split of a\.txt is not that of runs/a.*train again") as e:
        check_split(current, RECORD, (NATS, BITS), "a.txt", "runs/a")
    assert "\n" not in str(e.value)


def test_without_a_record_the_bytes_of_a_token_show_another_split() -> None:
    check_split(RECORD, None, (NATS, BITS), "a.txt", "runs/a")
    with pytest.raises(UserError, match=r"expected 2\.3000 bytes .*, found 2\.3100 bytes"):
        check_split(replace(RECORD, text_bytes=231), None, (NATS, BITS), "a.txt", "runs/a")


@pytest.mark.parametrize(
    "losses", [(math.inf, math.inf), (math.nan, math.nan), (0.0, 0.0)], ids=str
)
def test_without_a_record_or_an_evaluation_nothing_is_known(losses: tuple[float, float]) -> None:
    check_split(RECORD, None, losses, "a.txt", "runs/a")


@pytest.mark.parametrize(
    "manifest",
    [
        {"split": {"tokens": 3}},
        {"split": {"training_tokens": "3", "held_out_tokens": 3, "text_bytes": 3, "sha256": ""}},
        {"split": []},
        {"held_out": [1]},
        {"held_out": {"nats_per_token": "low"}},
        {"held_out": {"bits_per_byte": {}}},
    ],
    ids=str,
)
def test_a_damaged_manifest_is_refused(manifest: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="manifest of the bundle in runs/a is damaged"):
        read_split(manifest, "runs/a")


def test_an_old_manifest_has_no_record() -> None:
    losses = {"nats_per_token": 1.5, "bits_per_byte": 2.5}
    assert read_split({"held_out": losses}, "runs/a") == (None, (1.5, 2.5))
    assert read_split({}, "runs/a")[0] is None
