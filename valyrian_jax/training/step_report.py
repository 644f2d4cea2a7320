"""The result of a dispatch of steps, which callbacks take and return."""

from typing import NamedTuple

from valyrian_jax.training.progress import Progress
from valyrian_jax.training.train_step import TrainState


class StepReport(NamedTuple):
    """The result of a dispatch of steps."""

    step: int
    state: TrainState
    progress: Progress
    values: dict[str, float]  # to log, by name
