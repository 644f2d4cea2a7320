"""The logit lens on minimal pairs: after which block does the model know a rule?"""

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Bool, Float, Int

from valyrian_jax.config import ModelConfig
from valyrian_jax.data.rows import Rows, score_rows
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

    def score_batch(
        tokens: Int[np.ndarray, "B W"], counted: Bool[np.ndarray, "B T"]
    ) -> list[Array]:
        layers = lens(params, jnp.asarray(tokens[:, :-1]), config)
        return [_sum_targets(logits, tokens[:, 1:], counted) for logits in layers]

    return score_rows(score_batch, rows)


@jax.jit
def _sum_targets(
    logits: Float[Array, "B T V"], targets: Int[Array, "B T"], counted: Bool[Array, "B T"]
) -> Float[Array, " B"]:
    return -jnp.sum(token_cross_entropy(logits, targets), axis=-1, where=counted)
