"""The loss of a model over the whole held-out set, in nats per token and bits per byte."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from valyrian_jax.bundle.memory import estimate_memory
from valyrian_jax.config import ModelConfig, TrainConfig
from valyrian_jax.data.windows import EvalSet, EvalWindows
from valyrian_jax.model import sharding
from valyrian_jax.model.compute_options import (
    DEFAULT_OPTIONS,
    MAX_PROGRAMS,
    ComputeOptions,
    compiler_options,
)
from valyrian_jax.model.gpt import forward
from valyrian_jax.model.jax_settings import pin_jax_settings
from valyrian_jax.model.loss import summed_cross_entropy
from valyrian_jax.model.parameters import Params

EvalStep = Callable[[Params, Int[Array, "N B W"], Bool[Array, "N B T"]], Float[Array, " N"]]


class Evaluation(NamedTuple):
    """Cross-entropy of the held-out set; bits per byte do not depend on the tokenizer."""

    nats_per_token: float
    bits_per_byte: float


@functools.lru_cache(MAX_PROGRAMS)
def make_eval_step(config: ModelConfig, options: ComputeOptions = DEFAULT_OPTIONS) -> EvalStep:
    """Return a compiled function that sums the cross-entropy of N batches, in nats.

    It sums the counted tokens of each batch, without dropout.
    """
    # Evaluation needs no gradient, and its float32 is not a type that every kernel supports.
    options = options._replace(remat=False, attention="own")

    def sum_batch(
        params: Params, batch: Int[Array, "B W"], counted: Bool[Array, "B T"]
    ) -> Float[Array, ""]:
        logits = forward(params, batch[:, :-1], config, None, options)
        return summed_cross_entropy(logits, batch[:, 1:], counted)

    def eval_step(
        params: Params, batches: Int[Array, "N B W"], counted: Bool[Array, "N B T"]
    ) -> Float[Array, " N"]:
        return jax.lax.map(lambda pair: sum_batch(params, *pair), (batches, jnp.asarray(counted)))

    mesh = options.mesh or sharding.single_device_mesh()
    return jax.jit(
        eval_step,
        out_shardings=sharding.named_sharding(mesh),
        compiler_options=compiler_options(mesh),
    )


def split_batches(
    windows: EvalWindows, config: ModelConfig, limit: int, multiple: int = 1
) -> EvalWindows:
    """Return the same windows in smaller batches, if a batch takes more memory than a limit.

    Args:
        windows: N batches of B windows.
        config: Shape of the model.
        limit: Bytes for the forward pass of a batch.
        multiple: Number of devices that share the rows of a batch.
    """
    B, W = windows.tokens.shape[1:]

    def fits(rows: int) -> bool:
        return estimate_memory(config, TrainConfig(batch_size=rows)).evaluation <= limit

    divisors = [rows for rows in range(B, 0, -1) if B % rows == 0 and rows % multiple == 0]
    rows = next(filter(fits, divisors), divisors[-1])
    return EvalWindows(
        windows.tokens.reshape(-1, rows, W), windows.counted.reshape(-1, rows, W - 1)
    )


@pin_jax_settings()
def evaluate(
    eval_step: EvalStep, params: Params, eval_set: EvalSet, mesh: Mesh | None = None
) -> Evaluation:
    """Return the loss over every held-out token, always in the same order."""
    windows = sharding.shard(
        eval_set.windows, sharding.batch_sharding(mesh or sharding.single_device_mesh())
    )
    nats = float(np.sum(np.asarray(eval_step(params, *windows)), dtype=np.float64))
    return Evaluation(
        nats / int(eval_set.windows.counted.sum()), nats / math.log(2) / eval_set.text_bytes
    )
