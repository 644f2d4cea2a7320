"""The batches of each dispatch, on the devices that need them."""

import functools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh
from jaxtyping import Array, Int

from valyrian_jax.config import Config
from valyrian_jax.data.dataset import Dataset
from valyrian_jax.model import sharding


def place_dispatches(
    dataset: Dataset, config: Config, mesh: Mesh, step: int
) -> Iterator[Int[Array, "N B W"]]:
    """Yield the batches of each dispatch after `step` steps; dispatches end on multiples of their size."""
    train = config.train
    while step < train.steps:
        count = min(train.steps_per_dispatch - step % train.steps_per_dispatch, train.steps - step)
        yield place_batches(dataset, config, mesh, step, count)
        step += count


def place_batches(
    dataset: Dataset, config: Config, mesh: Mesh, step: int, count: int
) -> Int[Array, "N B W"]:
    """Put the batches of `count` steps on the devices; every process makes the rows of its own devices only."""

    @functools.cache  # devices that share products have the same rows
    def rows(first: int | None, last: int | None) -> npt.NDArray[np.int32]:
        return dataset.batches(step, count, slice(first, last))

    shape = (count, config.train.batch_size, config.model.n_positions + 1)
    return sharding.make_global_array(
        lambda index: rows(index[1].start, index[1].stop), shape, sharding.batch_sharding(mesh)
    )
