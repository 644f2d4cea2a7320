"""The training batches of every dispatch, on the devices that need them."""

import functools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh
from jaxtyping import Array, Int

from valyrian_jax.config import Config
from valyrian_jax.data.dataset import Dataset
from valyrian_jax.model import sharding


def iterate_batches(
    dataset: Dataset, config: Config, mesh: Mesh, step: int
) -> Iterator[Int[Array, "N B W"]]:
    """Yield the batches of every dispatch after `step` steps.

    Dispatches end on multiples of `steps_per_dispatch`, so evaluations and checkpoints of a resumed
    run happen at the same steps.
    """
    train = config.train
    while step < train.steps:
        count = min(train.steps_per_dispatch - step % train.steps_per_dispatch, train.steps - step)
        yield load_batches(dataset, config, mesh, step, count)
        step += count


def load_batches(
    dataset: Dataset, config: Config, mesh: Mesh, step: int, count: int
) -> Int[Array, "N B W"]:
    """Load the batches of `count` steps; every process loads the rows of its own devices only."""

    @functools.cache  # Devices along the tensor axis of the mesh have the same rows.
    def load_rows(start: int | None, stop: int | None) -> npt.NDArray[np.int32]:
        return dataset.batches(step, count, slice(start, stop))

    shape = (count, config.train.batch_size, config.model.n_positions + 1)
    return sharding.make_global_array(
        lambda index: load_rows(index[1].start, index[1].stop),
        shape,
        sharding.batch_sharding(mesh),
    )
