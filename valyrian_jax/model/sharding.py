"""The mesh of devices, and how arrays are sharded over its axes.

The mesh has three axes. `data`: every device has all parameters and some rows of the batch.
`fsdp`: every device has some rows and a shard of parameters, gradients and optimizer state; it
gathers the rest while it computes (ZeRO, Rajbhandari et al. 2020). `tensor`: the products
themselves are sharded, as in Megatron (Shoeybi et al. 2019).

This module only describes shardings: XLA's partitioner (GSPMD, Xu et al. 2021) derives every
device's program from them. One device is a mesh of 1 x 1 x 1 and runs the same code.

Flax's partitioning metadata would wrap every parameter in a box. The name table in
`valyrian_jax.bundle.names` keeps parameters plain dicts of arrays, and JAX, PyTorch and the bundle
share it.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from valyrian_jax.bundle.names import axis_sizes, parameter_axes
from valyrian_jax.config import Config, MeshConfig
from valyrian_jax.errors import UserError

ROW_AXES = ("data", "fsdp")  # the mesh axes of a batch's rows

# The mesh axis of each parameter axis; other parameter axes are not sharded.
_MESH_AXES = {
    "embed": "fsdp",
    "qkv": "tensor",
    "heads": "tensor",
    "mlp": "tensor",
    "vocab": "tensor",
}


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device]) -> Mesh:
    """Arrange devices in a mesh; a single process can use fewer than it has, the first ones."""
    can_leave_out = -1 not in (config.data, config.fsdp, config.tensor) and (
        jax.process_count() == 1
    )
    if can_leave_out:
        devices = devices[: config.data * config.fsdp * config.tensor]
    sizes = dataclasses.asdict(resolve_sizes(config, len(devices)))
    types = (AxisType.Auto,) * len(sizes)
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), types, devices=devices)


def resolve_sizes(config: MeshConfig, count: int) -> MeshConfig:
    """Return the sizes of a mesh of `count` devices, with -1 replaced by a number.

    Raises:
        UserError: The product of the sizes is not the number of devices.
    """
    sizes = dataclasses.asdict(config)
    has_free_axis = -1 in sizes.values()
    fixed = math.prod(size for size in sizes.values() if size > 0)
    shape = tuple(count // fixed if size < 0 else size for size in sizes.values())
    if math.prod(shape) != count:
        product = f"that divides {count}" if has_free_axis else f"of {count}"
        remedy = "change the others" if has_free_axis else "set one of them to -1"
        settings = ", ".join(f"mesh.{name} = {size}" for name, size in sizes.items())
        raise UserError(
            f"the mesh does not fit the devices: expected sizes with a product {product}, "
            f"found {settings}; {remedy} to use all devices"
        )
    return MeshConfig(*shape)


def single_device_mesh() -> Mesh:
    """Return a mesh of this process's first device."""
    return make_mesh(MeshConfig(), jax.local_devices()[:1])


def check_divisible(config: Config, sizes: Mapping[str, int]) -> None:
    """Check that the mesh axes divide the batch and the model; `sizes` are those of the axes."""
    rows = config.train.batch_size // config.train.accumulate
    sharded_sizes = [
        ("train.batch_size / train.accumulate", rows, ("data", "fsdp")),
        ("model.n_embd", config.model.n_embd, ("fsdp",)),
        ("model.n_head", config.model.n_head, ("tensor",)),
    ]
    for name, size, axes in sharded_sizes:
        count = math.prod(sizes[axis] for axis in axes)
        if size % count:
            product = " x ".join(f"mesh.{axis}" for axis in axes)
            raise UserError(
                f"cannot shard {name}: expected a multiple of {product} = {count}, found {size}; "
                "change one of them"
            )


def named_sharding(mesh: Mesh, *axes: str | tuple[str, ...] | None) -> NamedSharding:
    """Return the sharding of axis i of an array over axes[i]; None and missing axes replicate."""
    return NamedSharding(mesh, PartitionSpec(*axes))


def constrain(x: Array, mesh: Mesh | None, *axes: str | tuple[str, ...] | None) -> Array:
    """Constrain the sharding of x in a compiled program to `named_sharding(mesh, *axes)`."""
    if mesh is None:
        return x
    return jax.lax.with_sharding_constraint(x, named_sharding(mesh, *axes))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of N batches [N, B, ...] by rows."""
    return named_sharding(mesh, None, ROW_AXES)


def parameter_shardings(config: Config, mesh: Mesh) -> dict[str, NamedSharding]:
    """Return the sharding of every parameter by name.

    An axis is replicated if its mesh axis does not divide it.
    """
    sizes = axis_sizes(config.model)

    def mesh_axis(axis: str) -> str | None:
        name = _MESH_AXES.get(axis)
        return name if name and sizes[axis] % mesh.shape[name] == 0 else None

    return {
        name: named_sharding(mesh, *map(mesh_axis, axes))
        for name, axes in parameter_axes(config.model).items()
    }


def state_shardings(tree: PyTree[Any], config: Config, mesh: Mesh) -> PyTree[NamedSharding]:
    """Return the sharding of every array in a tree of parameters and optimizer state.

    An array has the sharding of the parameter whose name its path ends with. Other arrays are small
    and replicated.
    """
    shardings, replicated = parameter_shardings(config, mesh), named_sharding(mesh)

    def find_sharding(path: tuple[Any, ...], array: Any) -> NamedSharding:
        keys = [str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey)]
        suffixes = (".".join(keys[first:]) for first in range(len(keys)))
        sharding = next((shardings[name] for name in suffixes if name in shardings), replicated)
        return sharding if len(sharding.spec) <= array.ndim else replicated

    return jax.tree_util.tree_map_with_path(find_sharding, tree)


def make_global_array(
    make: Callable[[Any], npt.NDArray[Any]], shape: tuple[int, ...], sharding: NamedSharding
) -> Array:
    """Make an array over a mesh; every process makes only its devices' shards, by their slices."""
    return jax.make_array_from_callback(shape, sharding, make)


def shard(tree: PyTree[npt.ArrayLike], shardings: PyTree[NamedSharding]) -> PyTree[Array]:
    """Shard arrays that every process has; `shardings` is a prefix of the tree."""

    def put(sharding: NamedSharding, array: npt.ArrayLike) -> Array:
        whole = np.asarray(array)
        return make_global_array(whole.__getitem__, whole.shape, sharding)

    return jax.tree.map(
        lambda sharding, subtree: jax.tree.map(functools.partial(put, sharding), subtree),
        shardings,
        tree,
    )


def gather(tree: PyTree[Array], mesh: Mesh) -> PyTree[Any]:
    """Gather whole arrays into the memory of every process; on one device, return them unchanged.

    Every process must call it at the same time. It gathers one array after another.
    """
    if mesh.size == 1:
        return tree
    replicate = _make_replicate(mesh)
    return jax.tree.map(lambda array: np.asarray(replicate(array).addressable_data(0)), tree)


@functools.cache
def _make_replicate(mesh: Mesh) -> Callable[[Array], Array]:
    return jax.jit(lambda array: array, out_shardings=named_sharding(mesh))
