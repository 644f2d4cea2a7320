"""Estimate what larger runs would take, by arithmetic alone.

python tests/bench/scaling.py [--mfu 0.4] [--windows 512]

It prints the tables of "On paper" in valyrian_jax/README.md, which explains them and the letters.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import click

from valyrian_jax.bundle.names import parameter_shapes
from valyrian_jax.config import ModelConfig
from valyrian_jax.training.devices import flops_per_token

# From the data sheet of the NVIDIA H100 SXM. It says 1,979e12 FLOP/s "with sparsity", 900e9 bytes/s
# for both directions of NVLink together, and 80e9 bytes. JAX takes three quarters of the memory by
# default.
PEAK = 989e12  # FLOP/s in bfloat16, dense
MEMORY = 0.75 * 80e9  # bytes
NVLINK = 450e9  # bytes/s in each direction, inside a node
# From the data sheet of the NVIDIA DGX H100.
INFINIBAND = 50e9  # bytes/s in each direction, one port of 400 Gb/s per GPU
NODE = 8  # GPUs
# Assumptions.
DISK = 2e9  # bytes/s written
MFU = 0.4  # useful FLOP/s over PEAK
WINDOWS = 512  # of T tokens, in a step
GPUS = (8, 16, 32, 64, 128, 256, 512)


class Run(NamedTuple):
    """A model and the number of tokens it trains on."""

    name: str
    model: ModelConfig
    tokens: float


class Mesh(NamedTuple):
    """The sizes of the mesh axes.

    data and fsdp divide the windows, fsdp and tensor the state, and tensor the products.
    """

    data: int = 1
    fsdp: int = 1
    tensor: int = 1

    def within_node(self) -> "Mesh":
        """Return the sizes of the axes inside a node, filled by tensor, then fsdp, then data."""
        tensor = min(self.tensor, NODE)
        fsdp = min(self.fsdp, NODE // tensor)
        return Mesh(min(self.data, NODE // tensor // fsdp), fsdp, tensor)


GPT2 = ModelConfig(
    vocab_size=50257, n_positions=1024, n_embd=768, n_layer=12, n_head=12, tie_word_embeddings=True
)
SMALL = Run("124M", GPT2, 10e9)
LARGE = Run("1.5B", replace(GPT2, n_embd=1600, n_layer=48, n_head=25), 30e9)
# As many parameters as LARGE, whose 25 heads are odd.
OTHER_HEADS = Run("1.5B, 20 heads", replace(LARGE.model, n_head=20), 30e9)


def count_parameters(c: ModelConfig) -> int:
    return sum(math.prod(shape) for shape in parameter_shapes(c).values())


def tokens_per_second(c: ModelConfig, mfu: float) -> float:
    """Return the speed of one GPU that never waits for another."""
    return mfu * PEAK / flops_per_token(c)


def compute_seconds(c: ModelConfig, gpus: int, windows: int, mfu: float) -> float:
    """Return the time of a step on GPUs that never wait for each other."""
    return windows * c.n_positions / (gpus * tokens_per_second(c, mfu))


def state_bytes(c: ModelConfig, mesh: Mesh) -> float:
    """Return the bytes of the state on one GPU.

    For N parameters: parameters 4 N, moments 8 N, gradient 4 N, its sum over microbatches 4 N, and
    6 N while the step is checked for finite values. Gathered bfloat16 weights take 2 N more.
    """
    return (26 / mesh.fsdp + 2) * count_parameters(c) / mesh.tensor


def block_bytes(c: ModelConfig, tensor: int = 1) -> float:
    """Return the bytes that one block saves per token for the backward pass.

    They are 48 D with cuDNN's attention, and the tensor axis does not divide 26 D of them. Width D:
    4 arrays in float32, 5 in bfloat16, and q, k and v. Width 4 D: 2 in bfloat16. Source:
    `jax.ad_checkpoint.print_saved_residuals` for bfloat16 without dropout, without the scores of
    our own attention.
    """
    return 26 * c.n_embd + 22 * c.n_embd / tensor


def window_bytes(c: ModelConfig, mesh: Mesh, remat: bool) -> float:
    """Return the bytes that one window needs.

    All blocks save their activations, or with remat their inputs and one block its activations. The
    logits and their gradient take 2 bytes each.
    """
    block = block_bytes(c, mesh.tensor)
    blocks = c.n_layer * 2 * c.n_embd + block if remat else c.n_layer * block
    return c.n_positions * (blocks + 4 * c.vocab_size / mesh.tensor)


def max_windows(c: ModelConfig, mesh: Mesh, remat: bool) -> int:
    """Return the largest power of two of windows that fits on one GPU; 0 if not one fits."""
    fit = int((MEMORY - state_bytes(c, mesh)) / window_bytes(c, mesh, remat))
    return (1 << fit.bit_length()) >> 1


def gather_seconds(size: float, inside: int, devices: int) -> float:
    """Return the time to gather an array over devices, or to sum and scatter it.

    An all-reduce does both. In a ring of n, every device sends (n - 1)/n of the array. Across
    nodes, it sends that fraction of its own part of the array, through its own port.

    Args:
        size: Bytes of the array.
        inside: Number of the devices that share a node.
        devices: Number of devices.
    """
    nodes = devices // inside
    return (inside - 1) / inside * size / NVLINK + (nodes - 1) / nodes * size / inside / INFINIBAND


def communication_seconds(
    c: ModelConfig, mesh: Mesh, windows: int, weight_bytes: int = 4, sum_once: bool = False
) -> float:
    """Return the communication time of a step with remat.

    For every microbatch, GPUs gather weights and sum gradients. They sum activations of two bytes
    over the tensor axis, four times a block.

    Args:
        c: Model.
        mesh: Mesh of GPUs.
        windows: Windows in a step.
        weight_bytes: Bytes of a gathered weight.
        sum_once: Whether gradients are summed over the data axis once a step.
    """
    N, inside = count_parameters(c) / mesh.tensor, mesh.within_node()
    rows = windows // (mesh.data * mesh.fsdp)
    microbatches = math.ceil(rows / max_windows(c, mesh, remat=True))
    gather = 2 * gather_seconds(weight_bytes * N, inside.fsdp, mesh.fsdp)  # forward and backward
    scatter = gather_seconds(4 * N, inside.fsdp, mesh.fsdp)
    reduce = 2 * gather_seconds(4 * N / mesh.fsdp, inside.data, mesh.data)
    activation_bytes = 2 * rows * c.n_positions * c.n_embd
    activations = 2 * gather_seconds(activation_bytes, inside.tensor, mesh.tensor)
    sums = 1 if sum_once else microbatches
    return microbatches * (gather + scatter) + sums * reduce + 4 * c.n_layer * activations


def make_runs_table(mfu: float) -> str:
    """Describe the two runs."""
    rows = []
    for name, c, tokens in (SMALL, LARGE):
        N, speed = count_parameters(c), tokens_per_second(c, mfu)
        work = [f"{N:,}", f"{flops_per_token(c):,}", f"{tokens:,.0f}", f"{speed:,.0f}"]
        disk = [f"{2 * tokens / 1e9:.0f} GB", f"{12 * N / 1e9:.1f} GB", f"{12 * N / DISK:.1f} s"]
        rows.append([name, *work, f"{tokens / speed / 3600:,.1f}", *disk])
    return format_table(
        "run | N | operations a token | tokens | tokens/s | GPU hours | text | checkpoint | write",
        rows,
    )


def make_memory_table() -> str:
    """Show what one GPU holds on several meshes."""
    rows = []
    cases = [(SMALL, "data n", Mesh()), (LARGE, "data n", Mesh())]
    cases += [(LARGE, f"fsdp {n}", Mesh(fsdp=n)) for n in (8, 64)]
    cases.append((OTHER_HEADS, "tensor 4", Mesh(tensor=4)))
    for (name, c, _), shape, mesh in cases:
        windows = [window_bytes(c, mesh, remat) for remat in (False, True)]
        sizes = [f"{size / 1e9:.2f} GB" for size in (state_bytes(c, mesh), *windows)]
        counts = [f"{max_windows(c, mesh, remat)}" for remat in (False, True)]
        rows.append([name, shape, *sizes, *counts])
    return format_table(
        "run | mesh | state | a window | ... with remat | windows at a time | ... with remat", rows
    )


def make_time_table(mfu: float, windows: int) -> str:
    """Show how long a run takes if no GPU waits for communication."""
    rows = []
    for (name, c, tokens), gpus in ((run, gpus) for run in (SMALL, LARGE) for gpus in (8, 64, 512)):
        speed = gpus * tokens_per_second(c, mfu)
        step = f"{1e3 * compute_seconds(c, gpus, windows, mfu):,.1f} ms"
        run_time, reading = f"{tokens / speed / 60:,.1f} min", f"{2 * speed / 1e6:.1f} MB/s"
        rows.append(
            [name, f"{gpus}", f"{windows / gpus:g}", step, f"{speed:,.0f}", run_time, reading]
        )
    return format_table(
        "run | GPUs | windows on each | step | tokens/s | whole run | text read", rows
    )


# Run, mesh of n GPUs, fsdp (0: n), tensor, bytes of a gathered weight, sum_once.
MESH_CASES = (
    (SMALL, "data n", 1, 1, 4, False),
    (SMALL, "fsdp n", 0, 1, 4, False),
    (SMALL, "data n/4, tensor 4", 1, 4, 4, False),
    (LARGE, "data n", 1, 1, 4, False),
    (LARGE, "data n, gradients once a step", 1, 1, 4, True),
    (LARGE, "fsdp n", 0, 1, 4, False),
    (LARGE, "fsdp n, weights in bfloat16", 0, 1, 2, False),
    (LARGE, "data n/8, fsdp 8", 8, 1, 4, False),
    (OTHER_HEADS, "data n/4, tensor 4", 1, 4, 4, False),
)


def make_mesh_table(mfu: float, windows: int) -> str:
    """Show communication time over compute time, empty where the sizes do not divide."""
    rows: list[list[str]] = []
    for (name, c, _), shape, fsdp, tensor, weight_bytes, sum_once in MESH_CASES:
        rows.append([name, shape])
        for n in GPUS:
            mesh = Mesh(n // (fsdp or n) // tensor, fsdp or n, tensor)
            seconds = communication_seconds(c, mesh, windows, weight_bytes, sum_once)
            ratio = seconds / compute_seconds(c, n, windows, mfu)
            divides = c.n_embd % mesh.fsdp == c.n_head % tensor == windows % (n // tensor) == 0
            rows[-1].append(f"{ratio:.2f}" if divides else "")
    return format_table("run | mesh of n GPUs | " + " | ".join(map(str, GPUS)), rows)


def format_table(header: str, rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    rule = "|---" * (header.count("|") + 1) + "|"
    return "\n".join([f"| {header} |", rule, *(f"| {' | '.join(row)} |" for row in rows)])


def make_tables(mfu: float = MFU, windows: int = WINDOWS) -> list[str]:
    """Return all tables in the order of the README."""
    return [
        make_runs_table(mfu),
        make_memory_table(),
        make_time_table(mfu, windows),
        make_mesh_table(mfu, windows),
    ]


@click.command()
@click.option(
    "--mfu",
    type=click.FloatRange(0, 1, min_open=True),
    default=MFU,
    show_default=True,
    help="Model FLOP utilisation.",
)
@click.option(
    "--windows",
    type=click.IntRange(1),
    default=WINDOWS,
    show_default=True,
    help="Windows in a step.",
)
def main(mfu: float, windows: int) -> None:
    """Print the tables as Markdown."""
    click.echo("\n\n".join(make_tables(mfu, windows)))


if __name__ == "__main__":
    main()
