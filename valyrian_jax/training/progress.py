"""Progress of a run: its best evaluation, its patience and the steps it skipped."""

import math
from dataclasses import replace

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from valyrian_jax.config import TrainConfig


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Progress:
    """What a run counts besides its steps; every checkpoint contains it."""

    best_step: int = 0
    best_loss: float = math.inf
    best_bits_per_byte: float = math.inf
    evaluations_since_best: int = 0
    skipped_steps: int = 0


def update_progress(
    progress: Progress, step: int, nats_per_token: float, bits_per_byte: float
) -> Progress:
    """Return the progress with this evaluation counted: best step, best loss, patience."""
    if nats_per_token < progress.best_loss:
        return Progress(step, nats_per_token, bits_per_byte, 0, progress.skipped_steps)
    return replace(progress, evaluations_since_best=progress.evaluations_since_best + 1)


def is_out_of_patience(progress: Progress, patience: int) -> bool:
    """Return whether `patience` evaluations in a row had no lower loss; 0 never stops early."""
    return 0 < patience <= progress.evaluations_since_best


def is_finished(progress: Progress, step: int, config: TrainConfig) -> bool:
    """Return whether a run has taken its last step or is out of patience."""
    return step == config.steps or is_out_of_patience(progress, config.patience)


def is_due(step: int, every: int, steps: int) -> bool:
    """Return whether something is due every `every` steps and at the last step; 0 means never."""
    return every > 0 and (step % every == 0 or step == steps)
