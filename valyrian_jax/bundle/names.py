"""The name table: every parameter of the model, with its axes.

The names are those of GPT-2 at Hugging Face. The name of an axis determines its size, here, and how
it is sharded, in `valyrian_jax.model.sharding`.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from valyrian_jax.config import ModelConfig

Tensors = Mapping[str, npt.NDArray[np.floating[Any]]]  # by name


def parameter_axes(config: ModelConfig) -> dict[str, tuple[str, ...]]:
    """Return the axes of every parameter, in the order of the forward pass."""
    norm = {"weight": ("embed",), "bias": ("embed",)}
    block = {
        **{f"ln_1.{name}": axes for name, axes in norm.items()},
        **{"attn.c_attn.weight": ("embed", "qkv"), "attn.c_attn.bias": ("qkv",)},
        **{"attn.c_proj.weight": ("heads", "embed"), "attn.c_proj.bias": ("embed",)},
        **{f"ln_2.{name}": axes for name, axes in norm.items()},
        **{"mlp.c_fc.weight": ("embed", "mlp"), "mlp.c_fc.bias": ("mlp",)},
        **{"mlp.c_proj.weight": ("mlp", "embed"), "mlp.c_proj.bias": ("embed",)},
    }
    return {
        "transformer.wte.weight": ("vocab", "embed"),
        "transformer.wpe.weight": ("position", "embed"),
        **{
            f"transformer.h.{i}.{name}": axes
            for i in range(config.n_layer)
            for name, axes in block.items()
        },
        **{f"transformer.ln_f.{name}": axes for name, axes in norm.items()},
        **({} if config.tie_word_embeddings else {"lm_head.weight": ("vocab", "embed")}),
    }


def axis_sizes(config: ModelConfig) -> dict[str, int]:
    """Return the size of every axis; the vocabulary is padded to a multiple of vocab_multiple."""
    D, multiple = config.n_embd, config.vocab_multiple
    return {
        "embed": D,
        "qkv": 3 * D,
        "heads": D,
        "mlp": 4 * D,
        "vocab": -(-config.vocab_size // multiple) * multiple,
        "position": config.n_positions,
    }


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter, in the order of the forward pass."""
    sizes = axis_sizes(config)
    return {
        name: tuple(sizes[axis] for axis in axes) for name, axes in parameter_axes(config).items()
    }


def count_parameters(config: ModelConfig) -> int:
    """Return the number of parameters, with those of padded vocabulary rows."""
    return sum(map(math.prod, parameter_shapes(config).values()))


def describe_shape(config: ModelConfig) -> str:
    """Describe the shape of a model in one line."""
    rows = axis_sizes(config)["vocab"]
    padding = f" (padded to {rows})" if rows > config.vocab_size else ""
    return (
        f"{config.n_layer} blocks, {config.n_head} heads, width {config.n_embd}, "
        f"context {config.n_positions}, vocabulary {config.vocab_size}{padding}"
    )


def unpad_config(config: ModelConfig) -> ModelConfig:
    """Return the same model without padded vocabulary rows, as in a bundle."""
    return dataclasses.replace(config, vocab_multiple=1)
