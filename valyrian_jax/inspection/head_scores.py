"""What heads attend to: the previous token, and the token that followed the same one earlier."""

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from valyrian_jax.config import ModelConfig
from valyrian_jax.model.activations import attention_weights
from valyrian_jax.model.parameters import Params

_ROWS = 32

Float64 = npt.NDArray[np.float64]


def measure_previous_token_scores(
    params: Params, config: ModelConfig, tokens: npt.NDArray[np.int32]
) -> Float64:
    """Return the mean weight that each head gives to the previous token, [L, H].

    Args:
        params: Parameters of the model.
        config: Its shape.
        tokens: Rows of a text, [B, T].
    """
    weights = np.asarray(attention_weights(params, jnp.asarray(tokens), config), np.float64)
    return np.diagonal(weights, -1, axis1=-2, axis2=-1).mean(axis=(1, 3))


def measure_induction_scores(params: Params, config: ModelConfig, seed: int = 0) -> Float64:
    """Return the induction score of each head, [L, H] (Olsson et al. 2022).

    It is the mean weight from a token of a repeated random sequence to the token that followed the
    same token the first time.

    Args:
        params: Parameters of the model.
        config: Its shape.
        seed: Seed of the sequences.
    """
    length = config.n_positions // 2
    random = np.random.default_rng(seed)
    once = random.integers(config.vocab_size, size=(_ROWS, length), dtype=np.int32)
    weights = attention_weights(params, jnp.asarray(np.tile(once, 2)), config)
    second_half = np.asarray(weights, np.float64)[..., length:, :]  # (L, B, H, length, 2 length)
    # The token that followed token t the first time is t + 1.
    return np.diagonal(second_half, 1, axis1=-2, axis2=-1).mean(axis=(1, 3))
