"""What callbacks take and return: the result of a dispatch of steps."""

from typing import NamedTuple

from valyrian_jax.training.progress import Progress
from valyrian_jax.training.train_step import TrainState


class StepReport(NamedTuple):
    """The result of a dispatch of steps."""

    step: int
    state: TrainState
    progress: Progress
    values: dict[str, float]  # to log, by name
