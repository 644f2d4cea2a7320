"""The reader of checkpoints under `tests.support.fuzzing`: damage that hashes must show, and forgeries whose hashes agree."""

import functools
import hashlib
import json
import random
import tempfile
from pathlib import Path

import jax.numpy as jnp

from tests.support.fuzzing import Files, Target
from tests.support.mutating import damaged_bytes, damaged_text_of
from valyrian_jax.config import Config, config_to_tree
from valyrian_jax.training import checkpoint
from valyrian_jax.training.checkpoint import CheckpointMetadata
from valyrian_jax.training.progress import Progress
from valyrian_jax.training.resume import check_unchanged
from valyrian_jax.training.train_step import TrainState

STATE = TrainState(jnp.int32(5), {"w": jnp.arange(6.0)}, ())
JSON = ("5/record.json", "5/sha256.json")


@functools.cache
def checkpoint_files() -> Files:
    record = CheckpointMetadata(
        5, Progress(5, 2.5, 1.5), config_to_tree(Config()), "0" * 64, "1" * 64, {"jax": "0.10"}
    )
    with tempfile.TemporaryDirectory() as name:
        checkpoint.save(Path(name), STATE, record)
        files = sorted(path for path in Path(name).rglob("*") if path.is_file())
        return {path.relative_to(name).as_posix(): path.read_bytes() for path in files}


def sealed(files: Files) -> Files:
    """With hashes that agree."""
    names = {name.removeprefix("5/"): content for name, content in files.items() if name != JSON[1]}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in names.items()}
    return files | {JSON[1]: json.dumps(hashes).encode()}


def tamper(draw: random.Random, files: Files) -> Files:
    """Half of the time damage to any file; else to the record, with hashes that agree."""
    if draw.random() < 0.5:
        return sealed(files | {JSON[0]: damaged_text_of(draw, files[JSON[0]])})
    name = draw.choice(sorted(files))
    return files | {name: (damaged_text_of if name in JSON else damaged_bytes)(draw, files[name])}


def read_record(directory: Path) -> None:
    found = checkpoint.find_newest(directory)
    for name, content in checkpoint_files().items():
        assert name in JSON or (directory / name).read_bytes() == content, f"{name} was changed"
    assert found.metadata.step == 5
    check_unchanged(found.metadata, found.metadata, directory)


def forge(draw: random.Random, files: Files) -> Files:
    """Damage to the state, with hashes that agree."""
    name = draw.choice([name for name in sorted(files) if name not in JSON and files[name]])
    return sealed(files | {name: damaged_bytes(draw, files[name])})


def read_state(directory: Path) -> None:
    state = checkpoint.restore(checkpoint.find_newest(directory), STATE)
    assert state.params["w"].shape == (6,)


TARGETS = {
    "checkpoint": Target(lambda: dict(checkpoint_files()), tamper, read_record),
    "forged checkpoint": Target(lambda: dict(checkpoint_files()), forge, read_state, share=0.003),
}
