"""What a run knows of itself beside its state: its best evaluation, its patience, the steps it skipped."""

import math
from dataclasses import replace

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Progress:
    """Saved with every checkpoint."""

    best_step: int = 0
    best_loss: float = math.inf
    best_bits_per_byte: float = math.inf
    evaluations_since_best: int = 0
    skipped_steps: int = 0


def update_progress(
    progress: Progress, step: int, nats_per_token: float, bits_per_byte: float
) -> Progress:
    """Return the progress with an evaluation counted: best step, best loss, patience."""
    if nats_per_token < progress.best_loss:
        return Progress(step, nats_per_token, bits_per_byte, 0, progress.skipped_steps)
    return replace(progress, evaluations_since_best=progress.evaluations_since_best + 1)


def is_out_of_patience(progress: Progress, patience: int) -> bool:
    """Return whether the held-out loss has not fallen for `patience` evaluations; 0: never stop early."""
    return 0 < patience <= progress.evaluations_since_best


def is_due(step: int, every: int, steps: int) -> bool:
    """Return whether something that happens every so many steps, and at the end, happens after a step; 0: never."""
    return every > 0 and (step % every == 0 or step == steps)
