"""What stays the same while a run trains."""

from pathlib import Path
from typing import NamedTuple

import optax
from jax.sharding import Mesh
from rich.console import Console

from valyrian_jax.checkpoint import Record
from valyrian_jax.config import Config
from valyrian_jax.data.dataset import Corpus
from valyrian_jax.model.compute_options import ComputeOptions
from valyrian_jax.tracker import NoTracker, Tracker


class Session(NamedTuple):
    """What stays the same while a run trains."""

    directory: Path
    config: Config
    corpus: Corpus
    optimizer: optax.GradientTransformation
    mesh: Mesh
    how: ComputeOptions
    origin: Record  # what every checkpoint of this session says beside step and progress
    tracker: Tracker | NoTracker
    console: Console
    peak: float | None  # operations a second that all devices can do, where that is known
