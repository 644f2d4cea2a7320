"""The logit lens on minimal pairs: after which block does the model know a rule?"""

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Bool, Float, Int

from valyrian_jax.config import ModelConfig
from valyrian_jax.inspection.ablation import Rows, iterate_batches
from valyrian_jax.inspection.logit_lens import lens
from valyrian_jax.model.jax_settings import pin_jax_settings
from valyrian_jax.model.loss import token_cross_entropy
from valyrian_jax.model.parameters import Params


@pin_jax_settings()
def measure_layer_scores(
    params: Params, config: ModelConfig, rows: Rows
) -> npt.NDArray[np.float64]:
    """Return the log-probability of the counted targets of every row after every block.

    Row i of [L + 1, N] is by the logits that the output matrix reads after block i - 1; row 0 is
    after the embedding, and the last row is that of the model.

    Args:
        params: Parameters of the model.
        config: Its shape.
        rows: Rows to score.
    """
    scores = []
    for batch in iterate_batches(rows):
        tokens, counted = map(jnp.asarray, batch)
        layers = lens(params, tokens[:, :-1], config)
        scores.append([_sum_targets(logits, tokens[:, 1:], counted) for logits in layers])
    return np.concatenate([np.asarray(s, np.float64) for s in scores], axis=1)[
        :, : len(rows.tokens)
    ]


@jax.jit
def _sum_targets(
    logits: Float[Array, "B T V"], targets: Int[Array, "B T"], counted: Bool[Array, "B T"]
) -> Float[Array, " B"]:
    return -jnp.sum(token_cross_entropy(logits, targets), axis=-1, where=counted)
