"""Report the memory that GPT-2's presets need on an H100, on a machine without one.

python tests/bench/h100_memory.py [gpt2-124m ...]

It compiles the training steps for a description of the card, so nothing is allocated, and XLA does
not try out kernels. cuBLAS gets its default workspace. It needs the extra [cuda] and JAX 0.11 or
newer.
"""

import os
import time

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"  # the check looks for a driver

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

CONFIGS = Path(__file__).parents[2] / "configs"
CARD = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84929347584 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 13 minor: 0 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    """Print a table in Markdown."""
    topology = topologies.get_topology_desc(platform="cuda", target_config=CARD, topology="1x1x1")
    print("| configuration | windows at a time | state, GB | temporary, GB | seconds to compile |")
    print("|---|---|---|---|---|")
    for name in names or ("gpt2-124m", "gpt2-350m", "gpt2-774m", "gpt2-1.5b"):
        config = load_config(CONFIGS / f"{name}.toml")
        train, mesh = config.train, sharding.make_mesh(config.mesh, topology.devices)
        # `choose_options` asks the device for its capability, which a description cannot answer.
        options = ComputeOptions(train.scan_layers, train.remat, "cudnn", mesh)
        optimizer = make_optimizer(config.optim, train.steps)
        state = abstract_state(config, optimizer, mesh)
        shape = (1, train.batch_size, config.model.n_positions + 1)
        batch = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=sharding.batch_sharding(mesh))
        start = time.perf_counter()
        train_step = make_train_step(config, optimizer, options)
        memory = train_step.lower(state, batch).compile().memory_analysis()  # type: ignore[attr-defined]
        seconds = time.perf_counter() - start
        sizes = memory.argument_size_in_bytes / 1e9, memory.temp_size_in_bytes / 1e9
        windows = train.batch_size // train.accumulate
        row = f"| {name} | {windows} | {sizes[0]:.2f} | {sizes[1]:.2f} | {seconds:.0f} |"
        print(row, flush=True)


if __name__ == "__main__":
    main()
