"""What larger runs would take, by arithmetic alone: python tests/bench/scaling.py [--mfu 0.4] [--windows 512]

Prints the tables of "On paper" in valyrian_jax/README.md, which says what they and the letters mean.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import click

from valyrian_jax.bundle.names import parameter_shapes
from valyrian_jax.config import ModelConfig
from valyrian_jax.training.devices import flops_per_token

PEAK = 989e12  # operations/s in bfloat16, dense: NVIDIA H100 SXM data sheet, which says 1,979e12 "with sparsity"
MEMORY = (
    0.75 * 80e9
)  # bytes: three quarters of the data sheet's, which JAX takes unless told otherwise
NVLINK = (
    450e9  # bytes/s in each direction, inside a node: the same, which says 900e9 for both together
)
INFINIBAND = (
    50e9  # bytes/s in each direction, one port for every GPU: NVIDIA DGX H100 data sheet, 400 Gb/s
)
NODE = 8  # GPUs in a node: the same
DISK = 2e9  # bytes/s written: an assumption
MFU = 0.4  # of PEAK, in useful operations: an assumption
WINDOWS = 512  # a step, of T tokens each
GPUS = (8, 16, 32, 64, 128, 256, 512)


class Run(NamedTuple):
    """A model and how many tokens it is trained on."""

    name: str
    model: ModelConfig
    tokens: float


class Mesh(NamedTuple):
    """How many ways the windows (data, fsdp), the state (fsdp, tensor) and the products (tensor) are cut."""

    data: int = 1
    fsdp: int = 1
    tensor: int = 1

    def inside(self) -> "Mesh":
        """The part of every axis that lies in one node: neighbours in tensor first, then in fsdp, then in data."""
        tensor = min(self.tensor, NODE)
        fsdp = min(self.fsdp, NODE // tensor)
        return Mesh(min(self.data, NODE // tensor // fsdp), fsdp, tensor)


GPT2 = ModelConfig(
    vocab_size=50257, n_positions=1024, n_embd=768, n_layer=12, n_head=12, tie_word_embeddings=True
)
SMALL = Run("124M", GPT2, 10e9)
LARGE = Run("1.5B", replace(GPT2, n_embd=1600, n_layer=48, n_head=25), 30e9)
OTHER_HEADS = Run(
    "1.5B, 20 heads", replace(LARGE.model, n_head=20), 30e9
)  # as many parameters; 25 heads are odd


def parameter_count(c: ModelConfig) -> int:
    """N."""
    return sum(math.prod(shape) for shape in parameter_shapes(c).values())


def tokens_per_second(c: ModelConfig, mfu: float) -> float:
    """Of one GPU that never waits for another."""
    return mfu * PEAK / flops_per_token(c)


def compute_seconds(c: ModelConfig, gpus: int, windows: int, mfu: float) -> float:
    """Of a step on GPUs that never wait for each other."""
    return windows * c.n_positions / (gpus * tokens_per_second(c, mfu))


def state_bytes(c: ModelConfig, mesh: Mesh) -> float:
    """On one GPU: parameters 4 N, moments 8 N, gradient 4 N, its sum over parts 4 N, 6 N while a step is taken or not;
    gathered bfloat16 weights 2 N."""
    return (26 / mesh.fsdp + 2) * parameter_count(c) / mesh.tensor


def block_bytes(c: ModelConfig, tensor: int = 1) -> float:
    """What one block saves for a token's way back with cuDNN's attention: 48 D, of which tensor does not cut 26 D.
    As `jax.ad_checkpoint.print_saved_residuals` lists them for bfloat16 without dropout, but for the scores of our own
    attention. D wide: 4 arrays in float32, 5 in bfloat16, and q, k, v; 4 D: 2 in bfloat16.
    """
    return 26 * c.n_embd + 22 * c.n_embd / tensor


def window_bytes(c: ModelConfig, mesh: Mesh, remat: bool) -> float:
    """Of one window: what all blocks save, or with remat their inputs and one block; logits and gradient in 2 bytes."""
    block = block_bytes(c, mesh.tensor)
    blocks = c.n_layer * 2 * c.n_embd + block if remat else c.n_layer * block
    return c.n_positions * (blocks + 4 * c.vocab_size / mesh.tensor)


def windows_at_a_time(c: ModelConfig, mesh: Mesh, remat: bool) -> int:
    """The largest power of two that one GPU has room for; 0: not even for one."""
    fit = int((MEMORY - state_bytes(c, mesh)) / window_bytes(c, mesh, remat))
    return (1 << fit.bit_length()) >> 1


def gather_seconds(size: float, inside: int, devices: int) -> float:
    """To gather an array, or to sum and scatter it, over devices of which `inside` share a node; all-reduce does both.
    In a ring of n every device sends (n - 1)/n of the array; across nodes, of its own part of it, by a port of its own.
    """
    nodes = devices // inside
    return (inside - 1) / inside * size / NVLINK + (nodes - 1) / nodes * size / inside / INFINIBAND


def communication_seconds(
    c: ModelConfig, mesh: Mesh, windows: int, gathered: int = 4, once: bool = False
) -> float:
    """Of a step with remat: to gather weights (of `gathered` bytes) and sum gradients for every part of the batch, or
    over data `once` a step, and to sum activations (of two bytes) over tensor, four times a block."""
    N, inside = parameter_count(c) / mesh.tensor, mesh.inside()
    rows = windows // (mesh.data * mesh.fsdp)
    parts = math.ceil(rows / windows_at_a_time(c, mesh, remat=True))
    gather = 2 * gather_seconds(gathered * N, inside.fsdp, mesh.fsdp)  # forward, and again backward
    scatter = gather_seconds(4 * N, inside.fsdp, mesh.fsdp)
    reduce = 2 * gather_seconds(4 * N / mesh.fsdp, inside.data, mesh.data)
    activations = 2 * gather_seconds(
        2 * rows * c.n_positions * c.n_embd, inside.tensor, mesh.tensor
    )
    return (
        parts * (gather + scatter) + (1 if once else parts) * reduce + 4 * c.n_layer * activations
    )


def runs_table(mfu: float) -> str:
    """What each run is."""
    rows = []
    for name, c, tokens in (SMALL, LARGE):
        N, speed = parameter_count(c), tokens_per_second(c, mfu)
        work = [f"{N:,}", f"{flops_per_token(c):,}", f"{tokens:,.0f}", f"{speed:,.0f}"]
        disk = [f"{2 * tokens / 1e9:.0f} GB", f"{12 * N / 1e9:.1f} GB", f"{12 * N / DISK:.1f} s"]
        rows.append([name, *work, f"{tokens / speed / 3600:,.1f}", *disk])
    return markdown(
        "run | N | operations a token | tokens | tokens/s | GPU hours | text | checkpoint | write",
        rows,
    )


def memory_table() -> str:
    """What lies in the memory of one GPU."""
    rows = []
    whole = [(SMALL, "data n", Mesh()), (LARGE, "data n", Mesh())]
    cut = [(LARGE, f"fsdp {n}", Mesh(fsdp=n)) for n in (8, 64)] + [
        (OTHER_HEADS, "tensor 4", Mesh(tensor=4))
    ]
    for (name, c, _), shape, mesh in whole + cut:
        sizes = [
            state_bytes(c, mesh),
            window_bytes(c, mesh, remat=False),
            window_bytes(c, mesh, remat=True),
        ]
        counts = [f"{windows_at_a_time(c, mesh, remat)}" for remat in (False, True)]
        rows.append([name, shape, *(f"{size / 1e9:.2f} GB" for size in sizes), *counts])
    return markdown(
        "run | mesh | state | a window | ... with remat | windows at a time | ... with remat", rows
    )


def time_table(mfu: float, windows: int) -> str:
    """How long a run takes where nobody waits for communication."""
    rows = []
    for (name, c, tokens), gpus in ((run, gpus) for run in (SMALL, LARGE) for gpus in (8, 64, 512)):
        speed = gpus * tokens_per_second(c, mfu)
        step = f"{1e3 * compute_seconds(c, gpus, windows, mfu):,.1f} ms"
        time = [
            step,
            f"{speed:,.0f}",
            f"{tokens / speed / 60:,.1f} min",
            f"{2 * speed / 1e6:.1f} MB/s",
        ]
        rows.append([name, f"{gpus}", f"{windows / gpus:g}", *time])
    return markdown("run | GPUs | windows on each | step | tokens/s | whole run | text read", rows)


def mesh_table(mfu: float, windows: int) -> str:
    """Seconds of communication over seconds of computing, by mesh and number of GPUs; empty where a mesh cannot be."""
    rows: list[list[str]] = []
    for (name, c, _), shape, fsdp, tensor, gathered, once in (
        (SMALL, "data n", 1, 1, 4, False),
        (SMALL, "fsdp n", 0, 1, 4, False),
        (SMALL, "data n/4, tensor 4", 1, 4, 4, False),
        (LARGE, "data n", 1, 1, 4, False),
        (LARGE, "data n, gradients once a step", 1, 1, 4, True),
        (LARGE, "fsdp n", 0, 1, 4, False),
        (LARGE, "fsdp n, weights in bfloat16", 0, 1, 2, False),
        (LARGE, "data n/8, fsdp 8", 8, 1, 4, False),
        (OTHER_HEADS, "data n/4, tensor 4", 1, 4, 4, False),
    ):
        rows.append([name, shape])
        for n in GPUS:
            mesh = Mesh(n // (fsdp or n) // tensor, fsdp or n, tensor)
            ratio = communication_seconds(c, mesh, windows, gathered, once) / compute_seconds(
                c, n, windows, mfu
            )
            possible = c.n_embd % mesh.fsdp == c.n_head % tensor == windows % (n // tensor) == 0
            rows[-1].append(f"{ratio:.2f}" if possible else "")
    return markdown("run | mesh of n GPUs | " + " | ".join(map(str, GPUS)), rows)


def markdown(head: str, rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    rule = "|---" * (head.count("|") + 1) + "|"
    return "\n".join([f"| {head} |", rule, *(f"| {' | '.join(row)} |" for row in rows)])


def tables(mfu: float = MFU, windows: int = WINDOWS) -> list[str]:
    """All of them, in the order of the text."""
    return [runs_table(mfu), memory_table(), time_table(mfu, windows), mesh_table(mfu, windows)]


@click.command()
@click.option("--mfu", type=click.FloatRange(0, 1, min_open=True), default=MFU, show_default=True)
@click.option(
    "--windows", type=click.IntRange(1), default=WINDOWS, show_default=True, help="In a step."
)
def main(mfu: float, windows: int) -> None:
    """Print the tables, as Markdown."""
    click.echo("\n\n".join(tables(mfu, windows)))


if __name__ == "__main__":
    main()
