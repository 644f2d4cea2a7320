"""The GPT with components switched off: the output of a head or an MLP is replaced by its mean.

A mean keeps the states in their usual range, which zero does not (Wang et al. 2022,
"Interpretability in the Wild", section 2.2).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from valyrian_jax.config import ModelConfig
from valyrian_jax.model.gpt import forward
from valyrian_jax.model.jax_settings import pin_trace_settings
from valyrian_jax.model.parameters import Params

Output = Float[Array, "N D"]


class Components(NamedTuple):
    """A value for every head and every MLP, or for every channel of their outputs.

    Attributes:
        heads: [L, H]; or [L, D] for the mixed values of all heads of a layer, before `c_proj`.
        mlps: [L]; or [L, D] for the outputs of the MLPs.
    """

    heads: Float[Array, "L _"]
    mlps: Float[Array, " L *_"]


@pin_trace_settings()
def sum_outputs(params: Params, tokens: Int[Array, "B T"], config: ModelConfig) -> Components:
    """Return the sums over all tokens of the outputs of all heads [L, D] and MLPs [L, D]."""
    sums: dict[tuple[str, int], Array] = {}

    def add(kind: str, layer: int, output: Output) -> Output:
        sums[kind, layer] = output.sum(0)
        return output

    with nn.intercept_methods(_intercept(add)):
        forward(params, tokens, config)
    layers = range(config.n_layer)
    return Components(*(jnp.stack([sums[kind, i] for i in layers]) for kind in ("heads", "mlp")))


@pin_trace_settings()
def ablated_forward(
    params: Params,
    tokens: Int[Array, "B T"],
    config: ModelConfig,
    keep: Components,
    means: Components,
) -> Float[Array, "B T V"]:
    """Return the logits of `forward` without some heads and MLPs.

    Args:
        params: Parameters of the model.
        tokens: Token ids; T is at most n_positions.
        config: Shape of the model.
        keep: 1 for every head [L, H] and MLP [L] that stays, 0 for those that their mean replaces.
        means: Means of their outputs, [L, D] each.
    """
    width = config.n_embd // config.n_head

    def replace(kind: str, layer: int, output: Output) -> Output:
        if kind == "heads":
            kept, mean = jnp.repeat(keep.heads[layer], width), means.heads[layer]
        else:
            kept, mean = keep.mlps[layer], means.mlps[layer]
        return output * kept + mean * (1 - kept)

    with nn.intercept_methods(_intercept(replace)):
        return forward(params, tokens, config)


def _intercept(change: Callable[[str, int, Output], Output]) -> Callable[..., Any]:
    """Return a Flax interceptor that applies `change` to the outputs of heads and MLPs."""

    def interceptor(
        next_function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        match context.module.path:
            case (*_, layer, "attn", "c_proj") if context.method_name == "__call__":
                return next_function(change("heads", int(layer), args[0]))
            case (*_, layer, "mlp") if context.method_name == "__call__":
                return change("mlp", int(layer), next_function(*args, **kwargs))
        return next_function(*args, **kwargs)

    return interceptor
