"""What the GPT computes on the way to its logits: the states after every block, and attention.

Sizes are those of `valyrian_jax.model.gpt`.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from valyrian_jax.config import ModelConfig
from valyrian_jax.model.gpt import GPT
from valyrian_jax.model.jax_settings import pin_jax_settings, pin_trace_settings
from valyrian_jax.model.layers import LayerNorm
from valyrian_jax.model.parameters import Params, mask_padding


@pin_trace_settings()
def activations(
    params: Params, tokens: Int[Array, "B T"], config: ModelConfig
) -> dict[str, Float[Array, "B T _"]]:
    """Return the output of every stage of `forward`: embedding, h.0, h.1, ..., ln_f, logits."""
    (logits, _), captured = GPT(config).apply(
        {"params": params},
        tokens,
        None,
        None,
        capture_intermediates=True,
        mutable=["intermediates"],
    )
    stages = captured["intermediates"]["transformer"]
    blocks = {f"h.{i}": stages["h"][str(i)]["__call__"][0][0] for i in range(config.n_layer)}
    states = {"embedding": stages["embedding"][0], **blocks, "ln_f": stages["ln_f"]["__call__"][0]}
    outputs = {name: array.reshape(*tokens.shape, -1) for name, array in states.items()}
    return outputs | {"logits": logits}


@pin_trace_settings()
def unembed(
    params: Params, states: Float[Array, "B T D"], config: ModelConfig
) -> Float[Array, "B T V"]:
    """Return the logits that the final norm and the output matrix read from states of any block."""
    lm_head = params["transformer"]["wte"] if config.tie_word_embeddings else params["lm_head"]
    norm = LayerNorm(config.layer_norm_epsilon)
    x = norm.apply({"params": params["transformer"]["ln_f"]}, states.reshape(-1, config.n_embd))
    return mask_padding((x @ lm_head["weight"].T).reshape(*states.shape[:2], -1), config)


@pin_jax_settings()
@functools.partial(jax.jit, static_argnames="config")
def attention_weights(
    params: Params, tokens: Int[Array, "B T"], config: ModelConfig
) -> Float[Array, "L B H T T"]:
    """Return the attention weights of every head in `forward`: [l, b, h, query, key]."""
    _, captured = GPT(config).apply(
        {"params": params}, tokens, None, None, mutable=["intermediates"]
    )
    blocks = captured["intermediates"]["transformer"]["h"]
    return jnp.stack([blocks[str(layer)]["attn"]["weights"][0] for layer in range(config.n_layer)])
