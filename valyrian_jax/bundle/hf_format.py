"""Hugging Face's GPT-2 format: `config.json` and other JSON files, and the names of tensors."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from valyrian_jax.bundle.tensor_names import EMBEDDING, HEAD, canonicalize_names
from valyrian_jax.config import ModelConfig, explain_error
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import END_OF_TEXT, Tokenizer

# `transformers` has several names for each of the two functions.
_ACTIVATION_ALIASES = {
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_new",
    "gelu_python_tanh": "gelu_new",
    "gelu_fast": "gelu_new",
    "gelu_accurate": "gelu_new",
}
# Keys, of GPT-2 and of other models, that change what the model computes, and the only value that
# is supported: the one for GPT-2's own computation. A missing key and null count as that value.
_SUPPORTED_OPTIONS: dict[str, Any] = {
    "model_type": "gpt2",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "auto_map": None,
    "position_embedding_type": "absolute",
    "rotary": False,
    "rotary_dim": None,
    "rope_theta": None,
    "rope_scaling": None,
    "rope_parameters": None,
    "rms_norm_eps": None,
    "quantization_config": None,
}
# Keys of config.json by the field of `ModelConfig`, where the names differ.
_KEYS = {
    "activation": "activation_function",
    "dropout": "resid_pdrop",
    "init_std": "initializer_range",
}
# Keys that `transformers` also reads under the name that other models use.
_OTHER_KEYS = {
    "n_positions": "max_position_embeddings",
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
}


def read_model_config(content: Mapping[str, Any]) -> ModelConfig:
    """Return the model that a GPT-2 `config.json` describes."""
    for key, supported in _SUPPORTED_OPTIONS.items():
        value = content.get(key)
        if value is not None and value != supported:
            raise UserError(
                f"config.json has {key} = {value!r}, which is not supported; expected "
                + ("no such key" if supported is None else repr(supported))
            )
    activation = content.get("activation_function", "gelu_new")
    shape = {key: content.get(key, content.get(other)) for key, other in _OTHER_KEYS.items()}
    missing = [
        key
        for key, value in {**shape, "vocab_size": content.get("vocab_size")}.items()
        if value is None
    ]
    if missing:
        raise UserError(f"config.json is not a GPT-2 configuration: it has no {', '.join(missing)}")
    try:
        model = ModelConfig(
            vocab_size=content["vocab_size"],
            **shape,
            activation=_ACTIVATION_ALIASES.get(activation, activation),
            layer_norm_epsilon=content.get("layer_norm_epsilon", 1e-5),
            tie_word_embeddings=content.get("tie_word_embeddings", True),
            dropout=content.get("resid_pdrop", 0.1),
            init_std=content.get("initializer_range") or 0.02,
        )
    except TypeError as error:  # an activation that is a list
        raise UserError(
            f"config.json is not a GPT-2 configuration: {type(error).__name__} {error}"
        ) from error
    except ValidationError as error:
        raise UserError(f"config.json: {explain_error(error, _KEYS)}") from error
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
            # Batches and converters need the next two; texts do not.
            "unk_token": END_OF_TEXT,
            "pad_token": END_OF_TEXT,
            "padding_side": "left",
            "clean_up_tokenization_spaces": False,
        },
        "generation_config.json": {
            "bos_token_id": end,
            "eos_token_id": end,
            "pad_token_id": end,
            "do_sample": True,
            "max_length": model.n_positions,
        },
    }


def canonicalize_tensors(
    tensors: Mapping[str, npt.NDArray[Any]],
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the parameters in a checkpoint as float32 under the names of the name table."""
    names = canonicalize_names({name: tensor.shape for name, tensor in tensors.items()})
    canonical = {}
    for name, (first, *others) in names.items():
        tensor = tensors[first]
        for other in others:
            if not np.array_equal(tensors[other], tensor):
                raise UserError(
                    f"weights do not fit the model: {first} and {other} are the same parameter "
                    "but differ; remove one of them"
                )
        # A value too large for float32 becomes infinite, which `check_bundle` reports.
        with np.errstate(all="ignore"):
            is_float = tensor.dtype.kind == "f"
            canonical[name] = tensor.astype(np.float32, copy=False) if is_float else tensor
    return canonical


def has_untied_head(tensors: Mapping[str, npt.NDArray[Any]]) -> bool:
    """Return whether canonical tensors have an lm_head that differs from the token embedding."""
    return {EMBEDDING, HEAD} <= tensors.keys() and not np.array_equal(
        tensors[EMBEDDING], tensors[HEAD], equal_nan=True
    )


def tie_head(tensors: dict[str, npt.NDArray[np.float32]]) -> dict[str, npt.NDArray[np.float32]]:
    """Return canonical tensors without the lm_head; it becomes the embedding if that is missing."""
    head = tensors.get(HEAD)
    tied = {name: tensor for name, tensor in tensors.items() if name != HEAD}
    return tied if head is None else {EMBEDDING: head} | tied
