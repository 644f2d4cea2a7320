"""Report the memory that GPT-2's presets need per device on meshes of eight.

python tests/bench/memory.py [gpt2-124m ...]

XLA compiles the training steps and reports their memory; nothing is allocated. State is the
arguments of a step: parameters, the optimizer's two moments and the batch. Temporary is what a step
needs beyond them. Every device gets two windows of 1,024 tokens at a time; microbatches divide the
batch of 512. Layers are in a loop; the two larger models use rematerialisation.

The programs are for eight CPU devices, which compute bfloat16 in float32 and have no attention
kernel. A GPU needs less temporary memory and the same state.
"""

import os
import time

os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
)
os.environ["JAX_PLATFORMS"] = "cpu"

from dataclasses import replace
from pathlib import Path

import click
import jax
import jax.numpy as jnp

from valyrian_jax.config import Config, MeshConfig, load_config
from valyrian_jax.model import sharding
from valyrian_jax.model.compute_options import choose_options
from valyrian_jax.training.optimizer import make_optimizer
from valyrian_jax.training.train_step import abstract_state, make_train_step

CONFIGS = Path(__file__).parents[2] / "configs"
MESHES = [(8, 1, 1), (1, 8, 1), (4, 2, 1), (1, 2, 4)]


def measure_memory(config: Config, sizes: tuple[int, int, int]) -> tuple[float, float]:
    """Return the GB of state and of temporary memory on each device."""
    mesh = sharding.make_mesh(MeshConfig(*sizes), jax.devices())
    sharding.check_divisible(config, mesh.shape)
    optimizer = make_optimizer(config.optim, config.train.steps)
    options = choose_options(config, jax.devices()[0], mesh)
    train_step = make_train_step(config, optimizer, options)
    shape = (1, config.train.batch_size, config.model.n_positions + 1)
    batch = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=sharding.batch_sharding(mesh))
    state = abstract_state(config, optimizer, mesh)
    memory = train_step.lower(state, batch).compile().memory_analysis()  # type: ignore[attr-defined]
    return memory.argument_size_in_bytes / 1e9, memory.temp_size_in_bytes / 1e9


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    """Print a table in Markdown."""
    columns = ["configuration", "data x fsdp x tensor", "state, GB a device"]
    columns += ["temporary, GB a device", "seconds to compile"]
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    for name in names or ("gpt2-124m", "gpt2-350m", "gpt2-774m", "gpt2-1.5b"):
        config = load_config(CONFIGS / f"{name}.toml")
        for sizes in MESHES:
            if config.model.n_head % sizes[2]:
                continue
            train = replace(
                config.train,
                accumulate=config.train.batch_size // (2 * sizes[0] * sizes[1]),
                scan_layers=True,
                remat=name in {"gpt2-774m", "gpt2-1.5b"},
            )
            start = time.perf_counter()
            state, temporary = measure_memory(replace(config, train=train), sizes)
            seconds = time.perf_counter() - start
            shape = " x ".join(map(str, sizes))
            print(
                f"| {name} | {shape} | {state:.2f} | {temporary:.2f} | {seconds:.0f} |", flush=True
            )


if __name__ == "__main__":
    main()
