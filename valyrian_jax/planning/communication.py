"""What the devices of a mesh send to each other in one training step.

The collectives are those that XLA's partitioner puts into the compiled step
(tests/planning/test_plan.py counts them there). A ring of n devices sends (n - 1) / n of an array
to gather it or to reduce and scatter it, and twice that to reduce it for all (Patarasuk and Yuan
2009).
"""

from typing import NamedTuple

from valyrian_jax.bundle.names import axis_sizes, count_parameters
from valyrian_jax.config import Config, MeshConfig
from valyrian_jax.planning.cards import DEVICES_PER_MACHINE, Card


class Collectives(NamedTuple):
    """Bytes of the arrays that one device combines with others in a step, before any ring."""

    gradients: int  # reduced over data and fsdp, once for each microbatch
    weights: int  # gathered over fsdp
    activations: int  # reduced over tensor


class Traffic(NamedTuple):
    """Bytes that one device sends in a step, over each axis of the mesh."""

    data: int
    fsdp: int
    tensor: int


def count_collectives(config: Config, mesh: MeshConfig) -> Collectives:
    """Return what a step combines on a mesh.

    A token table that is also the output matrix has two gradients. A loop over the layers gathers
    them again for the backward pass. Every block reduces its activations twice in each direction,
    and the embedding and the output once.
    """
    model, train = config.model, config.train
    width = 2 if train.dtype == "bfloat16" else 4
    weights = count_parameters(model) // mesh.tensor
    table = axis_sizes(model)["vocab"] * model.n_embd // mesh.tensor
    gradients = weights + table * model.tie_word_embeddings
    gathers = 2 * train.accumulate if train.scan_layers else 1
    tokens = train.batch_size * model.n_positions // (mesh.data * mesh.fsdp)
    reductions = 4 * model.n_layer + 2
    return Collectives(
        gradients=width * gradients * train.accumulate * (mesh.data * mesh.fsdp > 1),
        weights=width * weights * gathers * (mesh.fsdp > 1),
        activations=width * tokens * model.n_embd * reductions * (mesh.tensor > 1),
    )


def count_traffic(config: Config, mesh: MeshConfig) -> Traffic:
    """Return what a device sends in a step, with rings of the devices along each axis."""
    gradients, weights, activations = count_collectives(config, mesh)
    data, fsdp, tensor = (_ring_share(size) for size in (mesh.data, mesh.fsdp, mesh.tensor))
    return Traffic(
        data=int(2 * data * gradients / mesh.fsdp),
        fsdp=int(fsdp * (gradients + weights)),
        tensor=int(2 * tensor * activations),
    )


def _ring_share(size: int) -> float:
    return (size - 1) / size


def estimate_seconds(traffic: Traffic, mesh: MeshConfig, card: Card, network: float) -> float:
    """Return the seconds of the traffic of a step, if nothing else runs meanwhile.

    The tensor axis is the innermost one, data the outermost. An axis whose devices are not all in
    one machine uses the network between machines, of `network` GB/s for each device.
    """
    spans = {
        "tensor": mesh.tensor,
        "fsdp": mesh.tensor * mesh.fsdp,
        "data": mesh.tensor * mesh.fsdp * mesh.data,
    }
    return sum(
        getattr(traffic, axis) / (1e9 * (card.link if span <= DEVICES_PER_MACHINE else network))
        for axis, span in spans.items()
    )
