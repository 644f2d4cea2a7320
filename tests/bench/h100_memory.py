"""What one H100 holds of GPT-2's presets, compiled for an H100 on a machine that has none; nothing is allocated.

python tests/bench/h100_memory.py [gpt2-124m ...]

Needs the extra [cuda] and JAX 0.11 or newer. XLA compiles for a description of the card instead of the card, so it
tries out no kernels; cuBLAS's workspace is what it asks for by default.
"""

import os
import time

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"  # which would look for a driver

from pathlib import Path

import click
import jax
import jax.numpy as jnp
from jax.experimental import topologies

from valyrian_jax.config import load_config
from valyrian_jax.model import sharding
from valyrian_jax.model.compute_options import ComputeOptions
from valyrian_jax.training.optimizer import make_optimizer
from valyrian_jax.training.train_step import abstract_state, make_train_step

CONFIGS = Path(__file__).parent.parent.parent / "configs"
CARD = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  clock_rate_ghz: 1.98 device_memory_size: 84929347584 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 } registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 } runtime_version { major: 13 minor: 0 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    """Print a Markdown table."""
    devices = topologies.get_topology_desc(
        platform="cuda", target_config=CARD, topology="1x1x1"
    ).devices
    print("| configuration | windows at a time | state, GB | temporary, GB | seconds to compile |")
    print("|---|---|---|---|---|")
    for name in names or ("gpt2-124m", "gpt2-350m", "gpt2-774m", "gpt2-1.5b"):
        settings = load_config(CONFIGS / f"{name}.toml")
        train, mesh = settings.train, sharding.make_mesh(settings.mesh, devices)
        # The device has no client to ask for its capability, so the kernel is named instead of chosen.
        how = ComputeOptions(train.scan_layers, train.remat, "cudnn", mesh)
        optimizer = make_optimizer(settings.optim, train.steps)
        like = abstract_state(settings, optimizer, mesh)
        shape = (1, train.batch_size, settings.model.n_positions + 1)
        batch = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=sharding.batch_sharding(mesh))
        began = time.perf_counter()
        train_step = make_train_step(settings, optimizer, how)
        memory = train_step.lower(like, batch).compile().memory_analysis()  # type: ignore[attr-defined]
        sizes = memory.argument_size_in_bytes / 1e9, memory.temp_size_in_bytes / 1e9
        windows, seconds = train.batch_size // train.accumulate, time.perf_counter() - began
        print(
            f"| {name} | {windows} | {sizes[0]:.2f} | {sizes[1]:.2f} | {seconds:.0f} |", flush=True
        )


if __name__ == "__main__":
    main()
