"""Overfitting: the training loss of a run falls while its held-out loss rises."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from valyrian_jax.run_directory import load_run_config, read_metrics
from valyrian_jax.tokenizer.display import format_size

_RISE = 1.02  # of the held-out loss; a smaller one is noise
# Repeated text teaches less each time, and little after this (Muennighoff et al., 2023).
_USEFUL_REPEATS = 16


class Losses(NamedTuple):
    """The losses of a run at an evaluation."""

    step: int
    training: float
    held_out: float
    bytes_per_token: float


def find_overfitting(records: Iterable[Mapping[str, Any]]) -> tuple[Losses, Losses] | None:
    """Return the losses at the lowest held-out loss and at the end, if the run overfits.

    Args:
        records: Metrics of the run.
    """
    evaluations = []
    for record in records:
        nats, bits = (
            record.get(f"held_out/{name}") for name in ("nats_per_token", "bits_per_byte")
        )
        if nats and bits and (training := record.get("train/loss")):
            size = nats / math.log(2) / bits
            evaluations.append(Losses(record["step"], training, nats, size))
    best = min(evaluations, key=lambda losses: losses.held_out, default=None)
    if best is None:
        return None
    last = evaluations[-1]
    has_risen = last.held_out > _RISE * best.held_out and last.training < best.training
    return (best, last) if has_risen else None


def describe_overfitting(run: Path) -> str:
    """Return a note that a run overfits, and what helps; "" if it does not, or is a bundle."""
    losses = find_overfitting(read_metrics(run))
    if losses is None:
        return ""
    (best, last), config = losses, load_run_config(run)
    tokens = config.train.steps * config.train.batch_size * config.model.n_positions
    size = float(f"{tokens / _USEFUL_REPEATS * best.bytes_per_token:.1g}")
    return (
        f"the held-out loss rose from {best.held_out:.4f} at step {best.step} to "
        f"{last.held_out:.4f}, while the training loss fell to {last.training:.4f}: the model "
        "learns its text by heart (overfitting), so more steps or a larger model do not help; use "
        f"more text (about {format_size(int(size))} for so many steps), or start from a trained "
        "model (--init)"
    )
