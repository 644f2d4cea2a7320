"""The plan of a run: memory, speed, hours, checkpoints, communication and the mesh to choose.

Operations and memory are computed from the configuration, and tests compare both with XLA's own
analysis. The speed is an assumption: a share of the device's peak (MFU).
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from valyrian_jax.bundle.memory import MemoryEstimate, estimate_memory
from valyrian_jax.bundle.names import count_parameters, unpad_config
from valyrian_jax.config import Config, MeshConfig
from valyrian_jax.errors import UserError
from valyrian_jax.model.compute_options import find_cudnn_problem
from valyrian_jax.model.sharding import check_divisible, resolve_sizes
from valyrian_jax.planning.cards import Card
from valyrian_jax.planning.communication import Traffic, count_traffic, estimate_seconds
from valyrian_jax.training.devices import flops_per_token, peak_flops

MFU = 0.4
DISK_SPEED = 1.0  # GB/s
NETWORK_SPEED = 50.0  # GB/s of each device between machines: 400 Gbit/s
SAME_SPEED = 0.02  # Layouts that differ by less are equally fast.
_BYTES_PER_PARAMETER = 12  # of a checkpoint: the parameter and the two moments of Adam


class Hardware(NamedTuple):
    """What a run is planned for."""

    card: Card
    devices: int = 1
    mfu: float = MFU
    disk: float = DISK_SPEED
    network: float = NETWORK_SPEED


class Layout(NamedTuple):
    """A mesh and the settings of `train` that trade memory for time, with what they cost."""

    mesh: MeshConfig
    accumulate: int
    remat: bool
    memory: MemoryEstimate
    traffic: Traffic
    compute_seconds: float  # of a step
    network_seconds: float  # of a step, if no computation hides it

    @property
    def seconds(self) -> float:
        """Seconds of a step, at most."""
        return self.compute_seconds + self.network_seconds


class Plan(NamedTuple):
    """What a run costs."""

    parameters: int
    flops_per_token: int
    tokens: int
    layout: Layout  # as configured
    with_remat: Layout  # the same with the other setting of train.remat
    recommended: Layout | None  # the fastest one that fits; None: none fits
    usable_bytes: int
    tokens_per_second: float
    hours: float
    checkpoint_bytes: int
    checkpoint_seconds: float
    checkpoints: int

    @property
    def fits(self) -> bool:
        """Whether the layout as configured fits into the memory of a device."""
        return self.layout.memory.training <= self.usable_bytes


def make_plan(config: Config, hardware: Hardware) -> Plan:
    """Return what a run costs on some devices.

    Raises:
        UserError: The mesh does not fit the devices or the model, or the device has no peak for
            `train.dtype`.
    """
    model, train = config.model, config.train
    mesh = resolve_sizes(config.mesh, hardware.devices)
    check_divisible(config, dataclasses.asdict(mesh))
    layout = make_layout(config, hardware, mesh, train.accumulate, train.remat)
    tokens = train.batch_size * model.n_positions
    checkpoint_bytes = _BYTES_PER_PARAMETER * count_parameters(model)
    return Plan(
        parameters=count_parameters(unpad_config(model)),
        flops_per_token=flops_per_token(model),
        tokens=train.steps * tokens,
        layout=layout,
        with_remat=make_layout(config, hardware, mesh, train.accumulate, not train.remat),
        recommended=recommend_layout(config, hardware),
        usable_bytes=hardware.card.usable_bytes,
        tokens_per_second=tokens / layout.seconds,
        hours=train.steps * layout.seconds / 3600,
        checkpoint_bytes=checkpoint_bytes,
        checkpoint_seconds=checkpoint_bytes / (1e9 * hardware.disk),
        checkpoints=-(-train.steps // train.checkpoint_every) + 1,
    )


def make_layout(
    config: Config, hardware: Hardware, mesh: MeshConfig, accumulate: int, remat: bool
) -> Layout:
    """Return a layout with its costs."""
    train = dataclasses.replace(config.train, accumulate=accumulate, remat=remat)
    config = dataclasses.replace(config, train=train)
    peak = peak_flops(hardware.card.kind, train.dtype, hardware.devices)
    if peak is None:
        raise UserError(
            f"the {hardware.card.kind} has no fast {train.dtype}: expected another type of "
            "activations; pass --train.dtype float32, or plan for another --device"
        )
    tokens = train.batch_size * config.model.n_positions
    traffic = count_traffic(config, mesh)
    return Layout(
        mesh=mesh,
        accumulate=accumulate,
        remat=remat,
        memory=estimate_memory(config.model, train, keeps_scores(config, hardware.card), mesh),
        traffic=traffic,
        compute_seconds=tokens * computed_flops(config) / (peak * hardware.mfu),
        network_seconds=estimate_seconds(traffic, mesh, hardware.card, hardware.network),
    )


def keeps_scores(config: Config, card: Card) -> bool:
    """Return whether attention keeps its scores for the gradient; cuDNN's does not."""
    is_wanted = config.train.attention in ("auto", "cudnn")
    return not is_wanted or find_cudnn_problem(config, card.capability, card.kind) is not None


def computed_flops(config: Config) -> int:
    """Return the FLOP that devices compute for a token, including those of rematerialisation.

    A block is recomputed up to its last product, whose result no gradient needs: three of its four
    matrices, with 8 D^2 weights, and attention.
    """
    model = config.model
    recomputed = model.n_layer * (16 * model.n_embd**2 + 4 * model.n_embd * model.n_positions)
    return flops_per_token(model) + recomputed * config.train.remat


def recommend_layout(config: Config, hardware: Hardware) -> Layout | None:
    """Return the simplest of the fastest layouts that fit into memory; None if none fits.

    The simplest layout shards least and, among equals, has the fewest microbatches.
    """
    layouts = [
        layout
        for layout in list_layouts(config, hardware)
        if layout.memory.training <= hardware.card.usable_bytes
    ]
    least = min((layout.seconds for layout in layouts), default=0.0)
    return min(
        (layout for layout in layouts if layout.seconds <= least * (1 + SAME_SPEED)),
        key=lambda layout: (layout.mesh.tensor, layout.mesh.fsdp, layout.accumulate),
        default=None,
    )


def list_layouts(config: Config, hardware: Hardware) -> Iterator[Layout]:
    """Yield every mesh of all devices with every number of microbatches and setting of remat."""
    for fsdp in _divisors(hardware.devices):
        for tensor in _divisors(hardware.devices // fsdp):
            mesh = MeshConfig(hardware.devices // (fsdp * tensor), fsdp, tensor)
            for accumulate in _divisors(config.train.batch_size):
                train = dataclasses.replace(config.train, accumulate=accumulate)
                try:
                    check_divisible(
                        dataclasses.replace(config, train=train), dataclasses.asdict(mesh)
                    )
                except UserError:
                    continue
                for remat in (False, True):
                    yield make_layout(config, hardware, mesh, accumulate, remat)


def _divisors(number: int) -> list[int]:
    return [size for size in range(1, number + 1) if number % size == 0]
