"""The name table: every parameter of the model, and what its axes are.

Names are those of GPT-2 as Hugging Face writes it. An axis is named by what runs along it, and from that follow both
its size (here) and how it is cut over devices (`valyrian_jax.model.sharding`).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from valyrian_jax.config import ModelConfig

Tensors = Mapping[str, npt.NDArray[np.floating[Any]]]  # flat name -> array


def parameter_axes(config: ModelConfig) -> dict[str, tuple[str, ...]]:
    """Every parameter and its axes, in the order of the forward pass."""
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
    """The size of every axis; that of the vocabulary is a multiple of `model.vocab_multiple` (see `padding`)."""
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
    """Every parameter and its shape, in the order of the forward pass."""
    size = axis_sizes(config)
    return {
        name: tuple(size[axis] for axis in axes) for name, axes in parameter_axes(config).items()
    }


def unpad_config(config: ModelConfig) -> ModelConfig:
    """The same model with a row for every token and no more, as in a bundle."""
    return dataclasses.replace(config, vocab_multiple=1)
