"""What a run has seen of itself so far: its best evaluation, its patience, the steps it left out."""

import math
from dataclasses import replace

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from valyrian_jax.evaluation.evaluate import Evaluation


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Progress:
    """What a run has seen of itself so far, beside its state; it is saved with every checkpoint."""

    best_step: int = 0
    best_loss: float = math.inf
    best_bits_per_byte: float = math.inf
    evaluations_since_best: int = 0
    skipped_steps: int = 0


def update_progress(progress: Progress, done: int, evaluation: Evaluation) -> Progress:
    """Progress after the evaluation at step `done`."""
    if evaluation.nats_per_token < progress.best_loss:
        return Progress(done, *evaluation, evaluations_since_best=0, skipped_steps=progress.skipped_steps)
    return replace(progress, evaluations_since_best=progress.evaluations_since_best + 1)


def is_out_of_patience(progress: Progress, patience: int) -> bool:
    """Whether the held-out loss has not fallen for `patience` evaluations; never if that is 0."""
    return 0 < patience <= progress.evaluations_since_best
