"""What each head and each MLP is for: what is lost when its mean replaces its output.

The mean is taken over all tokens of a text (mean ablation).
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Bool, Float, Int

from valyrian_jax.config import ModelConfig
from valyrian_jax.model.ablation import Components, ablated_forward, sum_outputs
from valyrian_jax.model.jax_settings import pin_jax_settings
from valyrian_jax.model.loss import token_cross_entropy
from valyrian_jax.model.parameters import Params

_BATCH_TOKENS = 1 << 12  # whose logits are in memory at a time


_sum_batch = jax.jit(sum_outputs, static_argnames="config")


class Rows(NamedTuple):
    """Rows of tokens, and which of their targets count.

    Attributes:
        tokens: Token ids [N, T + 1].
        counted: Which of the T targets of each row count [N, T].
    """

    tokens: npt.NDArray[np.int32]
    counted: npt.NDArray[np.bool_]


class Component(NamedTuple):
    """A head or an MLP; `head` is None for an MLP."""

    layer: int
    head: int | None

    @property
    def name(self) -> str:
        """Its name, such as "1.3" for head 3 of layer 1 and "MLP 1"; both count from 0."""
        return f"MLP {self.layer}" if self.head is None else f"{self.layer}.{self.head}"


def list_components(config: ModelConfig) -> list[Component]:
    """Return the heads of all layers, and then the MLPs."""
    layers = range(config.n_layer)
    heads = [Component(layer, head) for layer in layers for head in range(config.n_head)]
    return [*heads, *(Component(layer, None) for layer in layers)]


@pin_jax_settings()
def measure_means(params: Params, config: ModelConfig, rows: Rows) -> Components:
    """Return the mean outputs of all heads and MLPs over the tokens of rows, [L, D] each."""
    sums = [
        _sum_batch(params, jnp.asarray(tokens[:, :-1]), config)
        for tokens, _ in iterate_batches(rows, pad=False)
    ]
    count = rows.counted.size
    return jax.tree.map(lambda *arrays: sum(arrays) / count, *sums)


@pin_jax_settings()
def measure_log_probabilities(
    params: Params,
    config: ModelConfig,
    rows: Rows,
    means: Components,
    component: Component | None = None,
) -> npt.NDArray[np.float64]:
    """Return the log-probability of the counted targets of every row, [N].

    Args:
        params: Parameters of the model.
        config: Its shape.
        rows: Rows to score.
        means: Means of `measure_means`.
        component: What the mean replaces; None: nothing.
    """
    heads = np.ones((config.n_layer, config.n_head), np.float32)
    mlps = np.ones(config.n_layer, np.float32)
    if component and component.head is None:
        mlps[component.layer] = 0
    elif component:
        heads[component.layer, component.head] = 0
    keep = Components(jnp.asarray(heads), jnp.asarray(mlps))
    batches = (map(jnp.asarray, batch) for batch in iterate_batches(rows))
    scores = [_score(params, *batch, config, keep, means) for batch in batches]
    return np.concatenate([np.asarray(s, np.float64) for s in scores])[: len(rows.tokens)]


@functools.partial(jax.jit, static_argnames="config")
def _score(
    params: Params,
    tokens: Int[Array, "B W"],
    counted: Bool[Array, "B T"],
    config: ModelConfig,
    keep: Components,
    means: Components,
) -> Float[Array, " B"]:
    logits = ablated_forward(params, tokens[:, :-1], config, keep, means)
    return -jnp.sum(token_cross_entropy(logits, tokens[:, 1:]), axis=-1, where=counted)


def iterate_batches(rows: Rows, pad: bool = True) -> Iterator[Rows]:
    """Yield the rows in batches of one size; the last one is padded, or shorter without `pad`."""
    size = max(min(_BATCH_TOKENS // rows.counted.shape[1], len(rows.tokens)), 1)
    for first in range(0, len(rows.tokens), size):
        missing = max(0, first + size - len(rows.tokens)) if pad else 0
        last, padding = first + size, ((0, missing), (0, 0))
        yield Rows(
            np.pad(rows.tokens[first:last], padding), np.pad(rows.counted[first:last], padding)
        )
