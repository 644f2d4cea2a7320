"""Checkpoints of nanoGPT: the model from model_args, and the tensors in GPT-2's layout.

nanoGPT's Linear layers keep matrices as [out, in], and may have no biases.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from valyrian_jax.bundle.names import parameter_shapes
from valyrian_jax.config import ModelConfig, explain_error
from valyrian_jax.errors import UserError

Array = npt.NDArray[Any]

ACTIVATION_NOTE = (
    "the activation is gelu, as in nanoGPT; its first versions had gelu_new: pass --activation "
    "gelu_new for their checkpoints"
)
_LAYER_NORM_EPSILON = 1e-5
_REQUIRED = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
_OPTIONAL = ("bias", "dropout")
_KEYS = {"n_positions": "block_size"}  # fields that model_args calls otherwise
_SMALLEST_VOCABULARY = 257  # 256 bytes and the token that ends a text


def read_model_args(model_args: Any, activation: str) -> ModelConfig:
    """Return the model that the model_args of a checkpoint describe.

    Args:
        model_args: Content of the checkpoint.
        activation: The GELU of the MLP, which a checkpoint does not record.

    Raises:
        UserError: A key is missing, unknown or has an unsupported value.
    """
    if not isinstance(model_args, Mapping):
        raise UserError(
            f"model_args is {type(model_args).__name__}, expected a dictionary with "
            f"{', '.join(_REQUIRED)}"
        )
    supported = f"only nanoGPT's {', '.join((*_REQUIRED, *_OPTIONAL))} are supported"
    for key, value in model_args.items():
        if key not in (*_REQUIRED, *_OPTIONAL):
            raise UserError(
                f"model_args has {key} = {value!r}; {supported}; if it does not change what the "
                "model computes, remove it"
            )
    if missing := [key for key in _REQUIRED if model_args.get(key) is None]:
        raise UserError(f"model_args has no {', '.join(missing)}; expected {', '.join(_REQUIRED)}")
    vocab_size = model_args["vocab_size"]
    if isinstance(vocab_size, int) and vocab_size < _SMALLEST_VOCABULARY:
        raise UserError(
            f"model_args has vocab_size = {vocab_size}; only byte-level vocabularies of at least "
            f"{_SMALLEST_VOCABULARY} tokens are supported, not those of characters; train it on "
            "tokens of GPT-2"
        )
    try:
        return ModelConfig(
            vocab_size=vocab_size,
            n_positions=model_args["block_size"],
            n_embd=model_args["n_embd"],
            n_layer=model_args["n_layer"],
            n_head=model_args["n_head"],
            activation=activation,  # type: ignore[arg-type]  # checked by the class
            layer_norm_epsilon=_LAYER_NORM_EPSILON,
            tie_word_embeddings=True,
            dropout=model_args.get("dropout", 0.0),
            init_std=0.02,
        )
    except ValidationError as error:
        raise UserError(f"model_args: {explain_error(error, _KEYS)}") from error


def is_transposed(tensors: Mapping[str, Array]) -> bool:
    """Return whether canonical tensors have the matrices of Linear layers, [out, in]."""
    qkv = tensors.get("transformer.h.0.attn.c_attn.weight")
    return qkv is not None and qkv.ndim == 2 and qkv.shape[0] == 3 * qkv.shape[1]


def transpose(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Return canonical tensors with the matrices of all blocks as [in, out]."""
    return {
        name: tensor.T if ".h." in name and tensor.ndim == 2 else tensor
        for name, tensor in tensors.items()
    }


def add_biases(tensors: dict[str, Array], model: ModelConfig) -> dict[str, Array]:
    """Return canonical tensors with zeros for all biases of a model, if none of them has a bias.

    A bias has the width of its weight. Where the weight is missing too, the width comes from the
    model, so that a later error names only the weight.
    """
    if any(name.endswith(".bias") for name in tensors):
        return tensors
    zeros = {}
    for name, shape in parameter_shapes(model).items():
        if name.endswith(".bias"):
            weight = tensors.get(name.removesuffix("bias") + "weight")
            width = shape if weight is None else weight.shape[-1:]
            # A view of one zero, because a damaged model_args can ask for any width.
            zeros[name] = np.broadcast_to(np.float32(0), width)
    return tensors | zeros
