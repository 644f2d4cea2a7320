"""A run that learns its text by heart is told apart from one that needs more training."""

import json
from pathlib import Path
from typing import Any

import pytest

from valyrian_jax.config import config_from_tree, config_to_toml
from valyrian_jax.evaluation.overfitting import describe_overfitting, find_overfitting


def make_records(*losses: tuple[float, float]) -> list[dict[str, Any]]:
    """Return metrics with a training and a held-out loss at each evaluation, 3 bytes a token."""
    records: list[dict[str, Any]] = []
    for i, (training, held_out) in enumerate(losses, 1):
        bits = held_out / 0.6931471805599453 / 3
        values = {"held_out/nats_per_token": held_out, "held_out/bits_per_byte": bits}
        records += [
            {"step": i * 100 - 10, "train/loss": training + 1},
            {"step": i * 100, "train/loss": training, **values},
            {"step": i * 100, "samples": ["text"]},
        ]
    return records


@pytest.mark.parametrize(
    "losses",
    [
        [],
        [(3.0, 3.1)],
        [(3.0, 3.1), (2.0, 2.2), (1.9, 2.1)],
        [(3.0, 3.1), (2.0, 2.0), (1.9, 2.03)],  # noise
        [(3.0, 3.1), (2.0, 2.2), (9.0, 9.1)],  # both rise: the run diverges
    ],
)
def test_other_runs_do_not_overfit(losses: list[tuple[float, float]]) -> None:
    assert find_overfitting(make_records(*losses)) is None


def test_a_run_that_overfits_is_told_how_much_text_it_needs(tmp_path: Path) -> None:
    assert describe_overfitting(tmp_path) == ""  # a bundle has no metrics
    records = make_records((4.0, 6.5), (1.0, 6.09), (0.5, 6.3), (0.03, 6.78))
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in records))
    config = config_from_tree({"train": {"steps": 4800, "batch_size": 16}})
    (tmp_path / "config.toml").write_text(config_to_toml(config))
    message = describe_overfitting(tmp_path)
    assert message.startswith(
        "the held-out loss rose from 6.0900 at step 200 to 6.7800, while the training loss fell to "
        "0.0300: "
    )
    assert "(about 900 kB for so many steps)" in message  # 4800 x 16 x 64 / 16 tokens of 3 bytes
