"""The logit lens: what the model would predict after every block (nostalgebraist 2020).

A block only adds to the states that it reads, so the states of a token are one *residual stream*
from the embedding to the final norm (Elhage et al. 2021). The final norm and the output matrix can
therefore read it after any block, not only after the last.
"""

import functools
from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from valyrian_jax.config import ModelConfig
from valyrian_jax.model.activations import activations, unembed
from valyrian_jax.model.jax_settings import pin_jax_settings
from valyrian_jax.model.parameters import Params


def lens(
    params: Params, tokens: Int[Array | np.ndarray, "B T"], config: ModelConfig
) -> Iterator[Float[Array, "B T V"]]:
    """Yield the logits that the output matrix reads after the embedding and after each block.

    They are yielded one by one, because a large vocabulary makes them large. The last ones are the
    output of `valyrian_jax.model.gpt.forward`.

    Args:
        params: Parameters of the model.
        tokens: Token ids; T is at most n_positions.
        config: Shape of the model.
    """
    for states in residual_stream(params, tokens, config):
        yield _unembed(params, states, config)


@pin_jax_settings()
@functools.partial(jax.jit, static_argnames="config")
def residual_stream(
    params: Params, tokens: Int[Array, "B T"], config: ModelConfig
) -> list[Float[Array, "B T D"]]:
    """Return the states of every token after the embedding and after each block."""
    stages = activations(params, tokens, config)
    return [stages[name] for name in ("embedding", *(f"h.{i}" for i in range(config.n_layer)))]


_unembed = pin_jax_settings()(jax.jit(unembed, static_argnames="config"))
