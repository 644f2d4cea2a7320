"""What a run needs before its first step: devices, directory, dataset, metadata and weights."""

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
from valyrian_jax.bundle.model_card import base_model_name
from valyrian_jax.config import Config, ModelConfig, config_to_tree
from valyrian_jax.data.dataset import Dataset, open_dataset
from valyrian_jax.errors import UserError
from valyrian_jax.files import lock_directory, sha256_of_file
from valyrian_jax.model import sharding
from valyrian_jax.model.compute_options import ComputeOptions, choose_options
from valyrian_jax.model.parameters import Params, nest, pad_tensors
from valyrian_jax.run_directory import choose_directory, remove_leftovers
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.training import checkpoint, distributed
from valyrian_jax.training.budget import check_training_memory
from valyrian_jax.training.checkpoint import CheckpointMetadata
from valyrian_jax.training.devices import collect_versions
from valyrian_jax.training.progress import Progress
from valyrian_jax.training.train_step import TrainState, init_state

_POSITION_TABLE = "transformer.wpe.weight"
_READ_ONLY_ADVICE = (
    "a resumed run saves its checkpoints and logs there: make it writable, or resume a copy of it"
)


class RunSetup(NamedTuple):
    """The input of a run, checked and opened."""

    directory: Path
    config: Config  # with the model of the bundle, if the run starts from one
    device: jax.Device  # the first one of this process
    mesh: Mesh
    options: ComputeOptions
    init_bundle: Bundle | None
    base_model: str | None  # name of the bundle that the run started from, for the model card
    dataset: Dataset


class RunContext(NamedTuple):
    """What a run that owns its directory uses, the same from its first step to its last."""

    setup: RunSetup
    optimizer: optax.GradientTransformation
    metadata: CheckpointMetadata  # of every checkpoint, except step and progress


def prepare(
    config: Config,
    device: jax.Device,
    *,
    out: Path | None = None,
    resume: Path | None = None,
    init: Path | None = None,
    context: int | None = None,
) -> RunSetup:
    """Check and open the input of a run; nothing is written yet.

    See `valyrian_jax.training.run.train` for the arguments.

    Raises:
        UserError: A file is missing or damaged, or the settings do not fit it or the devices.
    """
    mesh = sharding.make_mesh(config.mesh, jax.devices(device.platform))
    directory = resume or _choose_directory(out)
    tokenizer = Tokenizer.load(directory / "tokenizer.json") if resume else None
    init_bundle = None
    base_model = checkpoint.read_base_model(directory / "checkpoints") if resume else None
    if init:
        init_bundle = load_bundle(init)
        base_model = base_model_name(init_bundle.manifest, init.resolve())
        config = use_bundle_model(config, init_bundle, context)
        tokenizer = init_bundle.tokenizer
    options = choose_options(config, device, mesh)
    sharding.check_divisible(config, mesh.shape)
    check_training_memory(config, options, mesh)
    dataset = open_dataset(config, tokenizer, directory)
    _ = dataset.eval_set  # Fail now if the held-out part cannot be read.
    return RunSetup(directory, config, device, mesh, options, init_bundle, base_model, dataset)


def _choose_directory(out: Path | None) -> Path:
    """Return the directory of a new run.

    Several processes need an explicit one, because the default name contains the time.
    """
    count = jax.process_count()
    if count > 1 and out is None:
        raise UserError(
            f"{count} processes need one run directory; pass the same --out to all of them"
        )
    return choose_directory(out) if distributed.is_primary() or out is None else out


def claim_directory(setup: RunSetup, is_new: bool) -> contextlib.AbstractContextManager[object]:
    """Lock the directory of a run, and write its tokenizer if the run is new.

    Only the primary process does so.
    """
    if not distributed.is_primary():
        return contextlib.nullcontext()
    with contextlib.ExitStack() as stack:
        advice = "choose another with --out" if is_new else _READ_ONLY_ADVICE
        stack.enter_context(lock_directory(setup.directory, advice=advice))
        remove_leftovers(setup.directory)
        if is_new:
            # Another process may have written here before the lock.
            choose_directory(setup.directory)
            setup.dataset.tokenizer.save(setup.directory / "tokenizer.json")
        return stack.pop_all()


def make_metadata(setup: RunSetup) -> CheckpointMetadata:
    """Return the metadata of a run at step 0, after checking that all processes agree on it."""
    tokenizer_sha256 = distributed.call_together(lambda: _hash_tokenizer(setup.directory))
    metadata = CheckpointMetadata(
        step=0,
        progress=Progress(),
        config=config_to_tree(setup.config),
        corpus_sha256=setup.dataset.fingerprint,
        tokenizer_sha256=tokenizer_sha256,
        versions=collect_versions(setup.device),
        base_model=setup.base_model,
        split=setup.dataset.record_split(),
    )
    shared = [metadata.config, metadata.corpus_sha256, metadata.tokenizer_sha256]
    digest = hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).digest()
    if not distributed.all_equal(digest):
        distributed.shutdown()
        raise UserError(
            "the processes of this run do not have the same configuration, text and tokenizer; "
            "start them with the same arguments and files"
        )
    return metadata


def _hash_tokenizer(directory: Path) -> str:
    file = directory / "tokenizer.json"
    if not file.exists():
        raise UserError(
            f"cannot find {file}, which the primary process has written; pass the same --out to "
            "all processes, in a directory that all of them see"
        )
    return sha256_of_file(file)


def start_run(run: RunContext) -> tuple[TrainState, Progress]:
    """Return the state of a new run, from random or given weights, and save it as checkpoint 0."""
    setup, optimizer, metadata = run
    bundle = setup.init_bundle
    params = load_bundle_params(bundle, setup.config.model) if bundle else None
    state = init_state(setup.config, optimizer, params, setup.mesh)
    checkpoint.save(setup.directory / "checkpoints", state, metadata)
    return state, metadata.progress


def use_bundle_model(config: Config, bundle: Bundle, context: int | None = None) -> Config:
    """Return the configuration of a run that starts from a bundle.

    Model and tokenizer are those of the bundle; dropout and padding stay those of the run.
    `context` may be shorter than that of the bundle.
    """
    learned = bundle.model.n_positions
    if context is not None and context > learned:
        raise UserError(
            f"--model.n_positions {context} is too long: the bundle has learned {learned} "
            f"positions; choose at most {learned}"
        )
    model = replace(
        bundle.model,
        dropout=config.model.dropout,
        vocab_multiple=config.model.vocab_multiple,
        n_positions=context or learned,
    )
    return replace(config, model=model, data=replace(config.data, tokenizer=""))


def load_bundle_params(bundle: Bundle, config: ModelConfig) -> Params:
    """Return the weights of a bundle, positions cut to the context and token tables padded."""
    positions = bundle.tensors[_POSITION_TABLE][: config.n_positions]
    return nest(pad_tensors({**bundle.tensors, _POSITION_TABLE: positions}, config))
