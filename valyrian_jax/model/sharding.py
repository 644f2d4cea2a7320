"""Where arrays lie: a mesh of devices, and along which of its axes an array is cut.

The mesh has three axes. `data`: every device has all parameters and some rows of the batch. `fsdp`: it has some rows
too, but only a part of parameters, gradients and optimizer state, and borrows the rest while it computes (ZeRO,
Rajbhandari et al. 2020). `tensor`: the products themselves are cut, as in Megatron (Shoeybi et al. 2019).

Nothing here computes or communicates: XLA's partitioner (GSPMD, Xu et al. 2021) makes from these descriptions the
program of every device. One device is a mesh of 1 x 1 x 1, and the same code.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from valyrian_jax.bundle.names import axis_sizes, parameter_axes
from valyrian_jax.config import Config, MeshConfig
from valyrian_jax.errors import UserError

ROW_AXES = ("data", "fsdp")  # the axes that the rows of a batch are cut along

# Which axis of the mesh an axis of a parameter is cut along; the others lie whole on every device.
_CUT = {"embed": "fsdp", "qkv": "tensor", "heads": "tensor", "mlp": "tensor", "vocab": "tensor"}


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device]) -> Mesh:
    """Arrange devices as the configuration says; if it asks for fewer than there are, the first ones.

    Raises:
        UserError: it says so for another number of devices.
    """
    sizes = {"data": config.data, "fsdp": config.fsdp, "tensor": config.tensor}
    given = math.prod(size for size in sizes.values() if size > 0)
    shape = tuple(len(devices) // given if size < 0 else size for size in sizes.values())
    if -1 not in sizes.values() and jax.process_count() == 1:
        devices = devices[: math.prod(shape)]
    if math.prod(shape) != len(devices):
        asked = ", ".join(f"mesh.{name} = {size}" for name, size in sizes.items())
        fits = (
            "the rest must divide it"
            if -1 in sizes.values()
            else "let one of them be -1, for what is left"
        )
        raise UserError(
            f"{asked} does not fit {len(devices)} device{'s' if len(devices) > 1 else ''}: the product must be their "
            f"number; {fits}"
        )
    return jax.make_mesh(shape, tuple(sizes), (AxisType.Auto,) * len(sizes), devices=devices)


def single_device_mesh() -> Mesh:
    """A mesh of the first device of this process alone."""
    return make_mesh(MeshConfig(), jax.local_devices()[:1])


def check_divisible(config: Config, mesh: Mesh) -> None:
    """Hold a model and its batch to a mesh.

    Raises:
        UserError: something cannot be cut into equal parts.
    """
    rows = config.train.batch_size // config.train.accumulate
    cuts = [
        ("train.batch_size / train.accumulate", rows, "data", "fsdp"),
        ("model.n_embd", config.model.n_embd, "fsdp"),
        ("model.n_head", config.model.n_head, "tensor"),
    ]
    for what, size, *axes in cuts:
        parts = math.prod(mesh.shape[axis] for axis in axes)
        if size % parts:
            over = " x ".join(f"mesh.{axis}" for axis in axes)
            raise UserError(
                f"{what} = {size} cannot be cut into {over} = {parts} equal parts; change one of them"
            )


def named_sharding(mesh: Mesh, *axes: str | tuple[str, ...] | None) -> NamedSharding:
    """Each axis of an array cut along what is named for it (None: not cut); what is not named, whole everywhere."""
    return NamedSharding(mesh, PartitionSpec(*axes))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """N batches (N, B, ...): every device has its rows."""
    return named_sharding(mesh, None, ROW_AXES)


def parameter_shardings(config: Config, mesh: Mesh) -> dict[str, NamedSharding]:
    """The place of every parameter, by its name. An axis that its part of the mesh does not divide stays whole."""
    sizes = axis_sizes(config.model)

    def cut(axis: str) -> str | None:
        along = _CUT.get(axis)
        return along if along and sizes[axis] % mesh.shape[along] == 0 else None

    return {
        name: NamedSharding(mesh, PartitionSpec(*map(cut, axes)))
        for name, axes in parameter_axes(config.model).items()
    }


def state_shardings(tree: PyTree[Any], config: Config, mesh: Mesh) -> PyTree[NamedSharding]:
    """The place of every array of a tree that holds parameters, or what an optimizer keeps of each of them.

    An array belongs to the parameter whose name its path ends in; what belongs to none is small, and is replicated.
    """
    places, whole = parameter_shardings(config, mesh), named_sharding(mesh)

    def place(path: tuple[Any, ...], array: Any) -> NamedSharding:
        keys = [str(part.key) for part in path if isinstance(part, jax.tree_util.DictKey)]
        names = (".".join(keys[first:]) for first in range(len(keys)))
        found = next((places[name] for name in names if name in places), whole)
        return found if len(found.spec) <= array.ndim else whole

    return jax.tree_util.tree_map_with_path(place, tree)


def make_global_array(
    make: Callable[[Any], npt.NDArray[Any]], shape: tuple[int, ...], place: NamedSharding
) -> Array:
    """An array over a mesh, of which every process makes only the parts that its devices hold, from their slices."""
    return jax.make_array_from_callback(shape, place, make)


def shard(tree: PyTree[npt.ArrayLike], places: PyTree[NamedSharding]) -> PyTree[Array]:
    """Arrays that every process has, over a mesh; one place for all of them, or one for each."""

    def put(place: NamedSharding, array: npt.ArrayLike) -> Array:
        known = np.asarray(array)
        return make_global_array(known.__getitem__, known.shape, place)

    return jax.tree.map(
        lambda place, part: jax.tree.map(functools.partial(put, place), part), places, tree
    )


def gather(tree: PyTree[Array], mesh: Mesh) -> PyTree[Any]:
    """The whole arrays: as they are on one device, else in the memory of every process, one after another.

    All processes must ask at the same time.
    """
    if mesh.size == 1:
        return tree
    return jax.tree.map(lambda array: np.asarray(_whole(mesh)(array).addressable_data(0)), tree)


@functools.cache
def _whole(mesh: Mesh) -> Callable[[Array], Array]:
    return jax.jit(lambda array: array, out_shardings=named_sharding(mesh))
