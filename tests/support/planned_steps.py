"""Compile training steps for eight forced CPU devices, and print what XLA reports about them.

python -m tests.support.planned_steps

It is a process of its own because JAX counts its devices once. tests/planning/test_plan.py compares
the JSON that it prints with the plan.
"""

import json
import os
import re
from collections import Counter
from typing import Any

if __name__ == "__main__":  # A test imports this module and must keep its own devices.
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8 "
        "--xla_backend_optimization_level=0"  # compiles faster, with the same buffers
    )

import jax
import jax.numpy as jnp

from valyrian_jax.config import Config, MeshConfig, load_config
from valyrian_jax.model import sharding
from valyrian_jax.model.compute_options import ComputeOptions
from valyrian_jax.training.optimizer import make_optimizer
from valyrian_jax.training.train_step import abstract_state, make_train_step

SHAPE: dict[str, Any] = {
    "model.n_positions": 128,
    "model.n_embd": 128,
    "model.n_layer": 2,
    "model.vocab_size": 2048,
    "model.tie_word_embeddings": True,
    "train.batch_size": 32,
}
STEPS: dict[str, tuple[tuple[int, int, int], dict[str, Any]]] = {
    "data": ((8, 1, 1), {}),
    "fsdp": ((1, 8, 1), {}),
    "tensor": ((1, 2, 4), {}),
    "accumulate": ((8, 1, 1), {"train.accumulate": 2}),
    "remat": (
        (1, 8, 1),
        {"train.accumulate": 2, "train.scan_layers": True, "train.remat": True},
    ),
}
_COLLECTIVE = re.compile(r" = (.*?) (all-reduce|all-gather)(?:-start)?\(")
_ARRAY = re.compile(r"f32\[([\d,]*)\]")


def load_step(name: str) -> tuple[Config, MeshConfig]:
    """Return the configuration and the mesh of a step."""
    sizes, settings = STEPS[name]
    return load_config(None, SHAPE | settings), MeshConfig(*sizes)


def analyse_step(name: str) -> dict[str, int]:
    """Return the bytes of a compiled step: its memory, and of collectives by their kind.

    A collective in a loop counts once.
    """
    config, sizes = load_step(name)
    mesh, train = sharding.make_mesh(sizes, jax.devices()), config.train
    optimizer = make_optimizer(config.optim, train.steps)
    state = abstract_state(config, optimizer, mesh)
    shape = (1, train.batch_size, config.model.n_positions + 1)
    batch = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=sharding.batch_sharding(mesh))
    options = ComputeOptions(train.scan_layers, train.remat, mesh=mesh)
    train_step: Any = make_train_step(config, optimizer, options)
    compiled = train_step.lower(state, batch).compile()
    memory = compiled.memory_analysis()
    collectives: Counter[str] = Counter()
    for arrays, kind in _COLLECTIVE.findall(compiled.as_text()):
        for dimensions in _ARRAY.findall(arrays):
            size = 4
            for dimension in filter(None, dimensions.split(",")):
                size *= int(dimension)
            collectives[kind] += size
    total = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    return {"memory": total, **collectives}


if __name__ == "__main__":
    print(json.dumps({name: analyse_step(name) for name in STEPS}))
