"""What a run needs before its first step: devices, a directory, weights to start from, a text, and one mind."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from valyrian_jax.bundle.bundle import Bundle, load_bundle
from valyrian_jax.config import Config, config_to_tree
from valyrian_jax.data.dataset import Corpus
from valyrian_jax.data.dataset import prepare as open_dataset
from valyrian_jax.errors import UserError
from valyrian_jax.files import sha256_of_file
from valyrian_jax.model import sharding
from valyrian_jax.model.compute_options import ComputeOptions, choose_options
from valyrian_jax.run_directory import choose_directory
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.training import distributed
from valyrian_jax.training.checkpoint import CheckpointMetadata
from valyrian_jax.training.finetuning import initial_config
from valyrian_jax.training.progress import Progress


class RunSetup(NamedTuple):
    """What a run works with. Nothing of it is on disk yet."""

    directory: Path
    config: Config  # with the model of the bundle, if it starts from one
    mesh: Mesh
    how: ComputeOptions
    initial: Bundle | None
    corpus: Corpus


def prepare(
    config: Config, device: jax.Device, out: Path | None, resume: Path | None, init: Path | None, context: int | None
) -> RunSetup:
    """Look at all that `valyrian_jax.training.run.train` was given; `device` stands for all that the run computes with.

    Raises:
        UserError: something is missing or does not fit.
    """
    mesh = sharding.make_mesh(config.mesh, jax.devices(device.platform))
    directory = resume or _directory(out)
    initial = load_bundle(init) if init else None
    if initial:
        config = initial_config(initial, config, context)
    how = choose_options(config, device, mesh)
    sharding.check_divisible(config, mesh)
    known = Tokenizer.load(directory / "tokenizer.json") if resume else initial.tokenizer if initial else None
    return RunSetup(directory, config, mesh, how, initial, open_dataset(config, known, directory))


def _directory(out: Path | None) -> Path:
    """Where a new run will be. Several processes must be told, since each has a clock of its own."""
    if distributed.process_count() > 1 and out is None:
        raise UserError(
            f"{distributed.process_count()} processes make one run: name its directory, the same for all, with --out"
        )
    return choose_directory(out) if distributed.is_primary() or out is None else out


def check_processes_agree(ready: RunSetup, versions: dict[str, str]) -> CheckpointMetadata:
    """What every checkpoint will say beside step and progress.

    Raises:
        UserError: the processes do not have the same configuration, text and tokenizer.
    """
    file = ready.directory / "tokenizer.json"
    with distributed.sync_errors():
        if not file.exists():  # which the first process has just written
            raise UserError(
                f"there is no {file} here, as in the first process: give all the same --out, in a directory that all "
                "of them see"
            )
    tokenizer_sha256 = sha256_of_file(file)
    record = CheckpointMetadata(
        0, Progress(), config_to_tree(ready.config), ready.corpus.sha256, tokenizer_sha256, versions
    )
    facts = json.dumps([record.config, record.corpus_sha256, record.tokenizer_sha256], sort_keys=True)
    if not distributed.all_equal(hashlib.sha256(facts.encode()).digest()):
        distributed.shutdown()
        raise UserError(
            "the processes of this run do not have the same configuration, text and tokenizer; start them with the "
            "same arguments and files"
        )
    return record
