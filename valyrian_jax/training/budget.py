"""What a run may spend on evaluation and samples, and whether it fits into memory at all.

The limits depend on the configuration, never on a clock, so a resumed run evaluates and samples in
the same way. Small amounts are never limited: `FREE_BYTES` of memory, and `FREE_FLOPS` operations,
which two CPU cores compute in a few seconds.
"""

from typing import NamedTuple

from jax.sharding import Mesh

from valyrian_jax.bundle.memory import (
    MAX_TEXTS,
    check_memory,
    count_texts,
    estimate_memory,
)
from valyrian_jax.config import Config, MeshConfig
from valyrian_jax.data.windows import EvalSet, EvalWindows
from valyrian_jax.evaluation.evaluate import split_batches
from valyrian_jax.files import memory_bytes
from valyrian_jax.model.compute_options import ComputeOptions
from valyrian_jax.training.devices import flops_per_token

MEMORY_SHARE = 1 / 2  # of the memory of a training step
TIME_SHARE = 1 / 20  # of the time between two evaluations; evaluation and samples get one each
FREE_BYTES = 1 << 28
FREE_FLOPS = 3 * 10**11
# Generating one token reads all weights, which takes as long as a pass over this many tokens.
_TOKENS_PER_READ = 16


class TextBudget(NamedTuple):
    """How many texts a run samples at most, and how many of them together."""

    texts: int
    batch_size: int


def limit_memory(config: Config, options: ComputeOptions) -> int:
    """Return the bytes that evaluation or sampling may take beside the state of the run."""
    keeps_scores = options.attention != "cudnn"
    step = estimate_memory(config.model, config.train, keeps_scores).training
    return max(FREE_BYTES, int(MEMORY_SHARE * step))


def limit_tokens(config: Config) -> int:
    """Return how many tokens forward passes may read for an evaluation, or for samples.

    For a token, training computes three times as much as a forward pass: the backward pass costs
    twice as much as the forward pass.
    """
    model, train = config.model, config.train
    steps = min(train.eval_every, train.steps)
    trained = 3 * steps * train.batch_size * model.n_positions
    free = 3 * FREE_FLOPS // flops_per_token(model)
    return max(int(TIME_SHARE * trained), free)


def limit_texts(config: Config, options: ComputeOptions) -> TextBudget:
    """Return how many texts a run may sample at a time, at least one."""
    T, new = config.model.n_positions, config.sample.max_new_tokens
    batch_size = count_texts(config.model, limit_memory(config, options))
    windows = 1 + new // max(1, T // 2)  # read again when the window moves
    tokens = windows * T + new * max(1, _TOKENS_PER_READ // batch_size)
    return TextBudget(max(1, min(MAX_TEXTS, limit_tokens(config) // tokens)), batch_size)


def limit_eval_set(eval_set: EvalSet, config: Config, options: ComputeOptions) -> EvalSet:
    """Return the evaluation set, or evenly spaced batches of it if all of them take too long.

    The bytes of a part are estimated as if all tokens had the same number of bytes.
    """
    rows = eval_set.windows.tokens.shape[1]
    allowed = max(1, limit_tokens(config) // config.model.n_positions // rows)
    stride = -(-len(eval_set.windows.tokens) // allowed)
    tokens, counted = eval_set.windows
    windows = EvalWindows(tokens[::stride], counted[::stride])
    share = windows.counted.sum() / counted.sum()
    text_bytes = round(eval_set.text_bytes * float(share))
    row_devices = options.mesh.shape["data"] * options.mesh.shape["fsdp"] if options.mesh else 1
    limit = limit_memory(config, options)
    return EvalSet(split_batches(windows, config.model, limit, row_devices), text_bytes)


def check_training_memory(config: Config, options: ComputeOptions, mesh: Mesh) -> None:
    """Check that a training step fits into the memory of a device, before anything is allocated."""
    keeps_scores, sizes = options.attention != "cudnn", MeshConfig(**mesh.shape)
    needed = estimate_memory(config.model, config.train, keeps_scores, sizes).training
    device = mesh.local_devices[0]
    statistics = device.memory_stats() if device.platform != "cpu" else None
    memory = (statistics or {}).get("bytes_limit", memory_bytes() // len(mesh.local_devices))
    check_memory(
        needed,
        memory,
        "training this model",
        "lower --train.batch_size, raise --train.accumulate, set --train.remat true, or train a "
        "smaller model",
    )
