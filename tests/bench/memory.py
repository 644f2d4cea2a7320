"""What one device holds of GPT-2 on meshes of eight, by XLA's own account of the compiled step; nothing is allocated.

python tests/bench/memory.py [gpt2-124m ...]

State: the arguments of the step, which are parameters, the optimizer's two averages and the batch. Temporary: what
the step needs beside them, with two windows of 1,024 tokens on a device at a time, and as many parts as the batch of
512 then has; layers in a loop, and the two larger models with rematerialisation. The programs are those for eight CPU
devices, which compute bfloat16 in float32 and have no kernel for attention, so the temporary memory of a GPU is less;
the state is the same.
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

CONFIGS = Path(__file__).parent.parent.parent / "configs"
MESHES = [(8, 1, 1), (1, 8, 1), (4, 2, 1), (1, 2, 4)]


def analysed(settings: Config, sizes: tuple[int, int, int]) -> tuple[float, float]:
    """GB of state and temporary memory on each device."""
    mesh = sharding.make_mesh(MeshConfig(*sizes), jax.devices())
    sharding.check_divisible(settings, mesh)
    optimizer = make_optimizer(settings.optim, settings.train.steps)
    train_step = make_train_step(
        settings, optimizer, choose_options(settings, jax.devices()[0], mesh)
    )
    shape = (1, settings.train.batch_size, settings.model.n_positions + 1)
    batch = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=sharding.batch_sharding(mesh))
    like = abstract_state(settings, optimizer, mesh)
    found = train_step.lower(like, batch).compile().memory_analysis()  # type: ignore[attr-defined]
    return found.argument_size_in_bytes / 1e9, found.temp_size_in_bytes / 1e9


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    """Print a Markdown table."""
    print(
        "| configuration | data x fsdp x tensor | state, GB a device | temporary, GB a device | seconds to compile |"
    )
    print("|---|---|---|---|---|")
    for name in names or ("gpt2-124m", "gpt2-350m", "gpt2-774m", "gpt2-1.5b"):
        settings = load_config(CONFIGS / f"{name}.toml")
        for sizes in MESHES:
            if settings.model.n_head % sizes[2]:
                continue
            parts = settings.train.batch_size // (2 * sizes[0] * sizes[1])
            began = time.perf_counter()
            train = replace(
                settings.train,
                accumulate=parts,
                scan_layers=True,
                remat=name in {"gpt2-774m", "gpt2-1.5b"},
            )
            held, temporary = analysed(replace(settings, train=train), sizes)
            shape = " x ".join(map(str, sizes))
            print(
                f"| {name} | {shape} | {held:.2f} | {temporary:.2f} | {time.perf_counter() - began:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
