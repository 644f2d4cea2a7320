"""The reader of checkpoints as a target of `tests.support.fuzzing`.

One target has damage that the hashes must show; the other has forgeries whose hashes agree.
"""

import functools
import hashlib
import json
import random
import tempfile
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp

from tests.support.fuzzing import Files, Target
from tests.support.mutating import damage_bytes, damage_json_text
from valyrian_jax.config import Config, config_to_tree
from valyrian_jax.training import checkpoint
from valyrian_jax.training.checkpoint import CheckpointMetadata
from valyrian_jax.training.progress import Progress
from valyrian_jax.training.resume import check_unchanged, describe_changes
from valyrian_jax.training.train_step import TrainState

STATE = TrainState(jnp.int32(5), {"w": jnp.arange(6.0)}, ())
RECORD, HASHES = "5/record.json", "5/sha256.json"


@functools.cache
def make_checkpoint_files() -> Files:
    metadata = CheckpointMetadata(
        5, Progress(5, 2.5, 1.5), config_to_tree(Config()), "0" * 64, "1" * 64, {"jax": "0.10"}
    )
    with tempfile.TemporaryDirectory() as name:
        checkpoint.save(Path(name), STATE, metadata)
        files = sorted(path for path in Path(name).rglob("*") if path.is_file())
        return {path.relative_to(name).as_posix(): path.read_bytes() for path in files}


def update_hashes(files: Files) -> Files:
    hashes = {
        name.removeprefix("5/"): hashlib.sha256(content).hexdigest()
        for name, content in files.items()
        if name != HASHES
    }
    return files | {HASHES: json.dumps(hashes).encode()}


def tamper(draw: random.Random, files: Files) -> Files:
    """Damage the metadata and make the hashes agree, or damage any file."""
    if draw.random() < 0.5:
        return update_hashes(files | {RECORD: damage_json_text(draw, files[RECORD])})
    name = draw.choice(sorted(files))
    damage = damage_json_text if name in (RECORD, HASHES) else damage_bytes
    return files | {name: damage(draw, files[name])}


def read_metadata(directory: Path) -> None:
    metadata = checkpoint.find_newest(directory).metadata
    for name, content in make_checkpoint_files().items():
        if name not in (RECORD, HASHES):
            assert (directory / name).read_bytes() == content, f"{name} was changed"
    assert metadata.step == 5
    check_unchanged(replace(metadata, config=config_to_tree(Config())), metadata, directory)
    describe_changes(metadata, metadata)


def forge(draw: random.Random, files: Files) -> Files:
    """Damage the state and make the hashes agree."""
    names = [name for name in sorted(files) if name not in (RECORD, HASHES) and files[name]]
    name = draw.choice(names)
    return update_hashes(files | {name: damage_bytes(draw, files[name])})


def read_state(directory: Path) -> None:
    state = checkpoint.restore(checkpoint.find_newest(directory), STATE)
    assert state.params["w"].shape == (6,)


TARGETS = {
    "checkpoint": Target(lambda: dict(make_checkpoint_files()), tamper, read_metadata),
    "forged checkpoint": Target(
        lambda: dict(make_checkpoint_files()), forge, read_state, share=0.003
    ),
}
