"""What a run needs before its first step: devices, a directory, weights to start from, a text, and one mind."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from valyrian_jax import finetuning, hosts
from valyrian_jax.bundle.bundle import Bundle, load_bundle
from valyrian_jax.checkpoint import Record
from valyrian_jax.config import Config, config_to_tree
from valyrian_jax.data.dataset import Corpus, prepare
from valyrian_jax.errors import UserError
from valyrian_jax.files import sha256_of_file
from valyrian_jax.model import sharding
from valyrian_jax.model.compute_options import ComputeOptions, choose_options
from valyrian_jax.run_directory import choose_directory
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.training.progress import Progress


class Prepared(NamedTuple):
    """What a run works with. Nothing of it is on disk yet."""

    directory: Path
    config: Config  # with the model of the bundle, if it starts from one
    mesh: Mesh
    how: ComputeOptions
    initial: Bundle | None
    corpus: Corpus


def prepared(
    config: Config, device: jax.Device, out: Path | None, resume: Path | None, init: Path | None, context: int | None
) -> Prepared:
    """Look at all that `valyrian_jax.loop.run` was given; `device` stands for all that the run computes with.

    Raises:
        UserError: something is missing or does not fit.
    """
    mesh = sharding.make_mesh(config.mesh, jax.devices(device.platform))
    directory = resume or _directory(out)
    initial = load_bundle(init) if init else None
    if initial:
        config = finetuning.settings(initial, config, context)
    how = choose_options(config, device, mesh)
    sharding.check_divisible(config, mesh)
    known = Tokenizer.load(directory / "tokenizer.json") if resume else initial.tokenizer if initial else None
    return Prepared(directory, config, mesh, how, initial, prepare(config, known, directory))


def _directory(out: Path | None) -> Path:
    """Where a new run will be. Several processes must be told, since each has a clock of its own."""
    if hosts.count() > 1 and out is None:
        raise UserError(f"{hosts.count()} processes make one run: name its directory, the same for all, with --out")
    return choose_directory(out) if hosts.first() or out is None else out


def agreed(ready: Prepared, versions: dict[str, str]) -> Record:
    """What every checkpoint will say beside step and progress.

    Raises:
        UserError: the processes do not have the same configuration, text and tokenizer.
    """
    file = ready.directory / "tokenizer.json"
    with hosts.together():
        if not file.exists():  # which the first process has just written
            raise UserError(
                f"there is no {file} here, as in the first process: give all the same --out, in a directory that all "
                "of them see"
            )
    tokenizer_sha256 = sha256_of_file(file)
    record = Record(0, Progress(), config_to_tree(ready.config), ready.corpus.sha256, tokenizer_sha256, versions)
    facts = json.dumps([record.config, record.corpus_sha256, record.tokenizer_sha256], sort_keys=True)
    if not hosts.agree(hashlib.sha256(facts.encode()).digest()):
        hosts.part()
        raise UserError(
            "the processes of this run do not have the same configuration, text and tokenizer; start them with the "
            "same arguments and files"
        )
    return record
