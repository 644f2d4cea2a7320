"""Train one configuration on several meshes of eight forced CPU devices, and print the results.

python -m tests.support.eight_devices SCRATCH

It is a process of its own because JAX counts its devices once. tests/model/test_sharding.py checks
the JSON that it prints.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
)

import jax
import numpy as np

from valyrian_jax.config import Config, MeshConfig, config_from_tree
from valyrian_jax.data.windows import EvalSet, make_eval_windows
from valyrian_jax.evaluation.evaluate import evaluate, make_eval_step
from valyrian_jax.model import sharding
from valyrian_jax.model.compute_options import choose_options
from valyrian_jax.model.parameters import to_tensors
from valyrian_jax.training import checkpoint
from valyrian_jax.training.checkpoint import CheckpointMetadata
from valyrian_jax.training.optimizer import make_optimizer
from valyrian_jax.training.progress import Progress
from valyrian_jax.training.train_step import abstract_state, init_state, make_train_step

CONFIG = config_from_tree(
    {
        "model": {
            "vocab_size": 300,
            "n_layer": 1,
            "n_embd": 32,
            "n_head": 4,
            "n_positions": 16,
            "dropout": 0.1,
        },
        "train": {"batch_size": 8, "steps": 50},
    }
)
PLAIN = replace(
    CONFIG,
    model=replace(CONFIG.model, dropout=0.0, n_layer=2),
    optim=replace(CONFIG.optim, name="muon"),
)
LEAN = replace(PLAIN, train=replace(PLAIN.train, accumulate=2, scan_layers=True, remat=True))
# Few different tokens, so that the model learns something.
BATCHES = np.random.default_rng(0).integers(0, 30, (50, 8, 17)).astype(np.int32)
EVAL_SET = EvalSet(make_eval_windows(np.arange(280, dtype=np.uint16), 8, 16), 500)


class Training:
    """A configuration on a mesh, with its compiled step and its state."""

    def __init__(self, config: Config, *sizes: int) -> None:
        self.mesh = sharding.make_mesh(MeshConfig(*sizes), jax.devices())
        self.config, self.optimizer = config, make_optimizer(config.optim, 50)
        self.options = choose_options(config, jax.devices()[0], self.mesh)
        self.step = make_train_step(config, self.optimizer, self.options)
        self.state = init_state(config, self.optimizer, None, self.mesh)

    def train_until(self, end: int) -> list[float]:
        """Train until a step, and return the losses."""
        losses: list[float] = []
        for start in range(int(self.state.step), end, 5):
            batches = BATCHES[start : start + 5]
            sharded = sharding.shard(batches, sharding.batch_sharding(self.mesh))
            self.state, metrics = self.step(self.state, sharded)
            losses += np.asarray(metrics.loss).tolist()
        return losses

    def evaluate(self) -> float:
        """Return the loss on the held-out set, in nats per token."""
        eval_step = make_eval_step(self.config.model, self.options)
        return evaluate(eval_step, self.state.params, EVAL_SET, self.mesh).nats_per_token

    def count_state_bytes(self) -> int:
        """Return the bytes of the state on one device, as XLA reports them."""
        state = abstract_state(self.config, self.optimizer, self.mesh)
        batches = jax.ShapeDtypeStruct(
            (5, 8, 17), np.int32, sharding=sharding.batch_sharding(self.mesh)
        )
        analysis = self.step.lower(state, batches).compile().memory_analysis()  # type: ignore[attr-defined]
        batch_bytes = BATCHES[:5].nbytes // (self.mesh.shape["data"] * self.mesh.shape["fsdp"])
        return int(analysis.argument_size_in_bytes) - batch_bytes


def main(scratch: Path) -> None:
    results: dict[str, Any] = {"losses": {}, "held_out": {}, "bytes": {}, "norm": {}}
    for sizes in [(1, 1, 1), (8, 1, 1), (1, 8, 1), (2, 2, 2)]:
        training = Training(CONFIG, *sizes)
        losses = training.train_until(25)
        if sizes == (2, 2, 2):  # sharded along all axes; other meshes resume from it below
            metadata = CheckpointMetadata(25, Progress(), {}, "", "", {})
            checkpoint.save(scratch, training.state, metadata)
        name = "x".join(map(str, sizes))
        results["losses"][name] = losses + training.train_until(50)
        results["held_out"][name] = training.evaluate()
        results["bytes"][name] = training.count_state_bytes()
        tensors = to_tensors(sharding.gather(training.state.params, training.mesh))
        results["norm"][name] = float(sum(np.square(tensor).sum() for tensor in tensors.values()))
    for name, sizes in {"8 to 1": (1, 1, 1), "8 to 8 others": (1, 8, 1)}.items():
        training = Training(CONFIG, *sizes)
        template = abstract_state(CONFIG, training.optimizer, training.mesh)
        training.state = checkpoint.restore(checkpoint.find_newest(scratch), template)
        results["losses"][name] = results["losses"]["1x1x1"][:25] + training.train_until(50)
    for name, config, sizes in [("plain", PLAIN, (1, 1, 1)), ("lean", LEAN, (2, 2, 2))]:
        results["losses"][name] = Training(config, *sizes).train_until(10)
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
