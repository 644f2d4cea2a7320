"""Hugging Face's GPT-2 format: `config.json` and other JSON files, and the names of tensors."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from valyrian_jax.config import ModelConfig, explain_error
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import END_OF_TEXT, Tokenizer

_ACTIVATION_ALIASES = {"gelu_pytorch_tanh": "gelu_new"}  # `transformers` has two names for it
_SUPPORTED_OPTIONS: dict[str, Any] = {
    "model_type": "gpt2",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}


def read_model_config(content: Mapping[str, Any]) -> ModelConfig:
    """Return the model that a GPT-2 `config.json` describes.

    Raises:
        UserError: It describes another model, or an option that this package does not support.
    """
    for key, value in _SUPPORTED_OPTIONS.items():
        if content.get(key, value) != value:
            raise UserError(
                f"config.json has {key} = {content[key]!r}; only {value!r} is supported"
            )
    activation = content.get("activation_function", "gelu_new")
    try:
        model = ModelConfig(
            vocab_size=content["vocab_size"],
            n_positions=content["n_positions"],
            n_embd=content["n_embd"],
            n_layer=content["n_layer"],
            n_head=content["n_head"],
            activation=_ACTIVATION_ALIASES.get(activation, activation),
            layer_norm_epsilon=content.get("layer_norm_epsilon", 1e-5),
            tie_word_embeddings=content.get("tie_word_embeddings", True),
            dropout=content.get("resid_pdrop", 0.1),
            init_std=content.get("initializer_range") or 0.02,
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"config.json is not a GPT-2 configuration: {type(error).__name__} {error}"
        ) from error
    except ValidationError as error:
        raise UserError(f"config.json: {explain_error(error)}") from error
    if content.get("n_inner") not in (None, 4 * model.n_embd):
        raise UserError(
            f"config.json has n_inner = {content['n_inner']!r}; only 4 x n_embd is supported"
        )
    return model


def make_json_files(model: ModelConfig, tokenizer: Tokenizer) -> dict[str, dict[str, Any]]:
    """Return the JSON files that `transformers` reads besides the weights and the tokenizer."""
    end = tokenizer.special.get(END_OF_TEXT)
    return {
        "config.json": {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "vocab_size": model.vocab_size,
            "n_positions": model.n_positions,
            "n_embd": model.n_embd,
            "n_layer": model.n_layer,
            "n_head": model.n_head,
            "n_inner": None,
            "activation_function": model.activation,
            "layer_norm_epsilon": model.layer_norm_epsilon,
            "tie_word_embeddings": model.tie_word_embeddings,
            "embd_pdrop": model.dropout,
            "attn_pdrop": model.dropout,
            "resid_pdrop": model.dropout,
            "initializer_range": model.init_std,
            "bos_token_id": end,
            "eos_token_id": end,
            "dtype": "float32",
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": model.n_positions,
            "bos_token": END_OF_TEXT,
            "eos_token": END_OF_TEXT,
            "clean_up_tokenization_spaces": False,
        },
        "generation_config.json": {"bos_token_id": end, "eos_token_id": end, "do_sample": True},
    }


def canonicalize_tensors(
    model: ModelConfig, tensors: Mapping[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[np.float32]]:
    """Return tensors as float32 under the names of the name table.

    Files of GPT-2's base model lack the prefix "transformer.", and old files contain mask buffers.

    Raises:
        UserError: A tensor occurs with and without the prefix.
    """
    canonical = {}
    for name, tensor in tensors.items():
        if name.endswith((".attn.bias", ".attn.masked_bias")):
            continue
        if not name.startswith(("transformer.", "lm_head.")):
            name = f"transformer.{name}"
        if name in canonical:
            raise UserError(
                f"weights do not fit the model: {name} occurs with and without its prefix"
            )
        # A value too large for float32 becomes infinite, which `check_bundle` reports.
        with np.errstate(all="ignore"):
            canonical[name] = tensor.astype(np.float32) if tensor.dtype.kind == "f" else tensor
    # Some files with tied embeddings contain only the head.
    if model.tie_word_embeddings and "lm_head.weight" in canonical:
        canonical.setdefault("transformer.wte.weight", canonical.pop("lm_head.weight"))
    return canonical
