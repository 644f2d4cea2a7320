"""One training on several meshes of eight forced CPU devices: python -m tests.support.eight_devices SCRATCH; prints JSON.

A process of its own, because JAX counts its devices once. The tests in tests/model/test_sharding.py judge what it prints.
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

SETTINGS = config_from_tree(
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
    SETTINGS,
    model=replace(SETTINGS.model, dropout=0.0, n_layer=2),
    optim=replace(SETTINGS.optim, name="muon"),
)
LEAN = replace(PLAIN, train=replace(PLAIN.train, accumulate=2, scan_layers=True, remat=True))
BATCHES = (
    np.random.default_rng(0).integers(0, 30, (50, 8, 17)).astype(np.int32)
)  # few tokens, which can be learnt
HELD_OUT = EvalSet(make_eval_windows(np.arange(280, dtype=np.uint16), 8, 16), 500)


class Training:
    """A configuration on a mesh, its compiled step and its state."""

    def __init__(self, settings: Config, *sizes: int) -> None:
        self.mesh = sharding.make_mesh(MeshConfig(*sizes), jax.devices())  # or the first of them
        self.settings, self.optimizer = settings, make_optimizer(settings.optim, 50)
        self.how = choose_options(settings, jax.devices()[0], self.mesh)
        self.step = make_train_step(settings, self.optimizer, self.how)
        self.state = init_state(settings, self.optimizer, None, self.mesh)

    def losses(self, until: int) -> list[float]:
        found: list[float] = []
        for first in range(int(self.state.step), until, 5):
            placed = sharding.shard(BATCHES[first : first + 5], sharding.batch_sharding(self.mesh))
            self.state, metrics = self.step(self.state, placed)
            found += np.asarray(metrics.loss).tolist()
        return found

    def held_out(self) -> float:
        eval_step = make_eval_step(self.settings.model, self.how)
        return evaluate(eval_step, self.state.params, HELD_OUT, self.mesh).nats_per_token

    def bytes_of_state(self) -> int:
        """On one device, by XLA's own account, without the batches."""
        like = abstract_state(self.settings, self.optimizer, self.mesh)
        batches = jax.ShapeDtypeStruct(
            (5, 8, 17), np.int32, sharding=sharding.batch_sharding(self.mesh)
        )
        analysis = self.step.lower(like, batches).compile().memory_analysis()  # type: ignore[attr-defined]
        rows = BATCHES[:5].nbytes // (self.mesh.shape["data"] * self.mesh.shape["fsdp"])
        return int(analysis.argument_size_in_bytes) - rows


def main(scratch: Path) -> None:
    found: dict[str, Any] = {"losses": {}, "held_out": {}, "bytes": {}, "norm": {}}
    for sizes in [(1, 1, 1), (8, 1, 1), (1, 8, 1), (2, 2, 2)]:
        training = Training(SETTINGS, *sizes)
        losses = training.losses(25)
        if sizes == (2, 2, 2):  # cut along all axes, to be put together elsewhere
            record = CheckpointMetadata(25, Progress(), {}, "", "", {})
            checkpoint.save(scratch, training.state, record)
        name = "x".join(map(str, sizes))
        found["losses"][name] = losses + training.losses(50)
        found["held_out"][name] = training.held_out()
        found["bytes"][name] = training.bytes_of_state()
        whole = to_tensors(sharding.gather(training.state.params, training.mesh))
        found["norm"][name] = float(sum(np.square(tensor).sum() for tensor in whole.values()))
    for name, sizes in {"8 to 1": (1, 1, 1), "8 to 8 others": (1, 8, 1)}.items():
        training = Training(SETTINGS, *sizes)
        like = abstract_state(SETTINGS, training.optimizer, training.mesh)
        training.state = checkpoint.restore(checkpoint.find_newest(scratch), like)
        found["losses"][name] = found["losses"]["1x1x1"][:25] + training.losses(50)
    for name, settings, sizes in [("plain", PLAIN, (1, 1, 1)), ("lean", LEAN, (2, 2, 2))]:
        found["losses"][name] = Training(settings, *sizes).losses(50)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
