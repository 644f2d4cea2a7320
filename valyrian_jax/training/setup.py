"""What a run needs before its first step: devices, a directory, weights to start from, a dataset, and agreement."""

import contextlib
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import optax
from jax.sharding import Mesh

from valyrian_jax.bundle.bundle import Bundle, load_bundle
from valyrian_jax.config import Config, ModelConfig, config_to_tree
from valyrian_jax.data.dataset import Dataset, open_dataset
from valyrian_jax.errors import UserError
from valyrian_jax.files import lock_directory, sha256_of_file
from valyrian_jax.model import sharding
from valyrian_jax.model.compute_options import ComputeOptions, choose_options
from valyrian_jax.model.parameters import Params, nest, pad_tensors
from valyrian_jax.run_directory import choose_directory
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.training import checkpoint, distributed
from valyrian_jax.training.checkpoint import CheckpointMetadata
from valyrian_jax.training.devices import software_versions
from valyrian_jax.training.progress import Progress
from valyrian_jax.training.train_step import TrainState, init_state

_POSITIONS = "transformer.wpe.weight"


class RunSetup(NamedTuple):
    """What a run works with, the same from its first step to its last."""

    directory: Path
    config: Config  # with the model of the bundle, if the run starts from one
    device: jax.Device  # stands for all devices of the run
    mesh: Mesh
    options: ComputeOptions
    initial: Bundle | None
    dataset: Dataset


def prepare(
    config: Config,
    device: jax.Device,
    *,
    out: Path | None = None,
    resume: Path | None = None,
    init: Path | None = None,
    context: int | None = None,
) -> RunSetup:
    """Check and open everything that a run was given; nothing is written yet.

    See `valyrian_jax.training.run.train` for the arguments.

    Raises:
        UserError: Something is missing or does not fit.
    """
    mesh = sharding.make_mesh(config.mesh, jax.devices(device.platform))
    directory = resume or _choose_directory(out)
    initial = load_bundle(init) if init else None
    if initial:
        config = initial_config(initial, config, context)
    options = choose_options(config, device, mesh)
    sharding.check_divisible(config, mesh)
    tokenizer = (
        Tokenizer.load(directory / "tokenizer.json")
        if resume
        else initial.tokenizer
        if initial
        else None
    )
    dataset = open_dataset(config, tokenizer, directory)
    dataset.batches(0, 1, slice(1))  # fail now if the training part has no full window
    _ = dataset.eval_set  # and now if the held-out part has none
    return RunSetup(directory, config, device, mesh, options, initial, dataset)


def _choose_directory(out: Path | None) -> Path:
    """Return where a new run will be; several processes must be told, since each has a clock of its own."""
    count = distributed.process_count()
    if count > 1 and out is None:
        raise UserError(
            f"{count} processes make one run: name its directory, the same for all, with --out"
        )
    return choose_directory(out) if distributed.is_primary() or out is None else out


def claim_directory(setup: RunSetup, is_new: bool) -> contextlib.AbstractContextManager[object]:
    """Lock the directory of a run, and write its tokenizer there; other processes than the primary do nothing.

    Raises:
        UserError: Another process has it, or it cannot be written.
    """
    if not distributed.is_primary():
        return contextlib.nullcontext()
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock_directory(setup.directory))
        if is_new:
            choose_directory(setup.directory)  # nobody was faster
            setup.dataset.tokenizer.save(setup.directory / "tokenizer.json")
        return stack.pop_all()


def make_metadata(setup: RunSetup) -> CheckpointMetadata:
    """Return what every checkpoint says beside step and progress.

    Raises:
        UserError: The processes do not have the same configuration, text and tokenizer.
    """
    tokenizer_sha256 = distributed.call_together(lambda: _hash_tokenizer(setup.directory))
    metadata = CheckpointMetadata(
        step=0,
        progress=Progress(),
        config=config_to_tree(setup.config),
        corpus_sha256=setup.dataset.fingerprint,
        tokenizer_sha256=tokenizer_sha256,
        versions=software_versions(setup.device),
    )
    facts = json.dumps(
        [metadata.config, metadata.corpus_sha256, metadata.tokenizer_sha256], sort_keys=True
    )
    if not distributed.all_equal(hashlib.sha256(facts.encode()).digest()):
        distributed.shutdown()
        raise UserError(
            "the processes of this run do not have the same configuration, text and tokenizer; start them with the "
            "same arguments and files"
        )
    return metadata


def _hash_tokenizer(directory: Path) -> str:
    file = directory / "tokenizer.json"
    if not file.exists():  # the primary process has just written it
        raise UserError(
            f"there is no {file} here, as in the primary process: give all processes the same --out, in a directory "
            "that all of them see"
        )
    return sha256_of_file(file)


def start_run(
    setup: RunSetup, optimizer: optax.GradientTransformation, metadata: CheckpointMetadata
) -> tuple[TrainState, Progress]:
    """Return the state of a new run, from new or given weights, and save it as checkpoint 0."""
    params = initial_params(setup.initial, setup.config.model) if setup.initial else None
    state = init_state(setup.config, optimizer, params, setup.mesh)
    checkpoint.save(setup.directory / "checkpoints", state, metadata)
    return state, metadata.progress


def initial_config(initial: Bundle, config: Config, context: int | None = None) -> Config:
    """Return the configuration of a run that starts from a bundle: its model and tokenizer, our dropout and padding.

    Args:
        initial: Bundle to start from.
        config: Configuration of the run.
        context: Context length, at most the bundle's; None: the bundle's.

    Raises:
        UserError: The context is longer than the bundle's.
    """
    longest = initial.model.n_positions
    if context is not None and context > longest:
        raise UserError(
            f"--model.n_positions {context}: the bundle has learnt {longest} positions, and nothing of those after "
            f"them; choose at most {longest}"
        )
    ours = config.model
    model = replace(
        initial.model,
        dropout=ours.dropout,
        vocab_multiple=ours.vocab_multiple,
        n_positions=context or longest,
    )
    return replace(config, model=model, data=replace(config.data, tokenizer=""))


def initial_params(initial: Bundle, config: ModelConfig) -> Params:
    """Return the bundle's weights in NumPy, the position table cut to the context, the token tables padded."""
    tensors = {**initial.tensors, _POSITIONS: initial.tensors[_POSITIONS][: config.n_positions]}
    return nest(pad_tensors(tensors, config))
