"""What stays the same while a run trains."""

from pathlib import Path
from typing import NamedTuple

import optax
from jax.sharding import Mesh
from rich.console import Console

from valyrian_jax.config import Config
from valyrian_jax.data.dataset import Corpus
from valyrian_jax.model.compute_options import ComputeOptions
from valyrian_jax.training.checkpoint import CheckpointMetadata
from valyrian_jax.training.metrics import MetricsLogger, NullLogger


class RunContext(NamedTuple):
    """What stays the same while a run trains."""

    directory: Path
    config: Config
    corpus: Corpus
    optimizer: optax.GradientTransformation
    mesh: Mesh
    how: ComputeOptions
    origin: CheckpointMetadata  # what every checkpoint of this session says beside step and progress
    tracker: MetricsLogger | NullLogger
    console: Console
    peak: float | None  # operations a second that all devices can do, where that is known
