"""What each head and each MLP is for: what is lost when its mean replaces its output.

The mean is taken over all tokens of a text (mean ablation).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Bool, Float, Int

from valyrian_jax.config import ModelConfig
from valyrian_jax.data.rows import Rows, score_rows
from valyrian_jax.model.ablation import Components, ablated_forward, sum_outputs
from valyrian_jax.model.jax_settings import pin_jax_settings
from valyrian_jax.model.loss import token_cross_entropy
from valyrian_jax.model.parameters import Params

_BATCH_TOKENS = 1 << 12  # whose outputs are in memory at a time


_sum_batch = jax.jit(sum_outputs, static_argnames="config")


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
    inputs = rows.tokens[:, :-1]
    size = max(_BATCH_TOKENS // inputs.shape[1], 1)
    sums = [
        _sum_batch(params, jnp.asarray(inputs[first : first + size]), config)
        for first in range(0, len(inputs), size)
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
    score_batch = functools.partial(_score, params, config=config, keep=keep, means=means)
    return score_rows(score_batch, rows)


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
