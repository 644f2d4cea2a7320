"""The bundle: trained weights as a Hugging Face GPT-2 directory, the one neutral format between all sides.

A bundle holds `config.json`, `model.safetensors` (float32, GPT-2's names, matrices [in, out]), `tokenizer.json`,
`tokenizer_config.json`, `generation_config.json` and `manifest.json`. `transformers` opens it unmodified, and a GPT-2
directory from anywhere loads as a bundle (the manifest is then empty).
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as serialize

from valyrian_jax.bundle.names import Tensors, parameter_shapes
from valyrian_jax.config import ModelConfig, explain_error
from valyrian_jax.errors import UserError
from valyrian_jax.files import read_json_object, sha256_of_file
from valyrian_jax.tokenizer import END_OF_TEXT, Tokenizer

FORMAT_VERSION = 1
BUNDLE_FILES = (
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
)
_SAME_ACTIVATION = {"gelu_pytorch_tanh": "gelu_new"}  # two names of `transformers` for one function


@dataclass(frozen=True)
class Bundle:
    """Weights with all that is needed to use them."""

    model: ModelConfig
    tensors: Tensors
    tokenizer: Tokenizer
    manifest: Mapping[str, Any] = field(default_factory=dict)


def check_bundle(config: ModelConfig, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Hold tensors to the name table.

    Raises:
        UserError: a name is missing or unknown, a shape is wrong, or a value is not finite; the problems in one line.
    """
    expected = parameter_shapes(config)
    problems = [f"{name} is missing" for name in expected if name not in tensors]
    problems += [f"{name} is unknown" for name in tensors if name not in expected]
    for name in expected.keys() & tensors.keys():
        tensor = tensors[name]
        if tensor.shape != expected[name]:
            problems.append(f"{name} has shape {tensor.shape}, expected {expected[name]}")
        elif tensor.dtype.kind != "f":
            problems.append(f"{name} has type {tensor.dtype}, expected floating point")
        elif not np.isfinite(tensor).all():
            problems.append(f"{name} holds values that are not finite")
    if problems:
        raise UserError("weights do not fit the model: " + "; ".join(sorted(problems)))


def save_bundle(bundle: Bundle, path: str | os.PathLike[str]) -> None:
    """Write a bundle; at every moment the directory is whole or absent.

    Args:
        bundle: what to write; `manifest` may carry further facts (the run's config, hashes), kept as they are.
        path: the directory; an existing bundle there is replaced.

    Raises:
        UserError: the weights do not fit the model (see `check`).
    """
    check_bundle(bundle.model, bundle.tensors)
    path = Path(path)
    partial, previous = (
        path.with_name(path.name + ".partial"),
        path.with_name(path.name + ".previous"),
    )
    recover_bundle(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)

    # safetensors writes the buffer as it lies in memory: a transposed view would be written wrong.
    weights = {
        name: np.ascontiguousarray(tensor, dtype=np.float32)
        for name, tensor in bundle.tensors.items()
    }
    (partial / "model.safetensors").write_bytes(serialize(weights, metadata={"format": "pt"}))
    bundle.tokenizer.save(partial / "tokenizer.json")
    for name, content in _json_files(bundle).items():
        _write_json(partial / name, content)
    hashes = {file.name: sha256_of_file(file) for file in sorted(partial.iterdir())}
    _write_json(
        partial / "manifest.json",
        {**bundle.manifest, "format_version": FORMAT_VERSION, "sha256": hashes},
    )

    shutil.rmtree(previous, ignore_errors=True)
    if path.exists():
        path.rename(previous)
    partial.rename(path)
    shutil.rmtree(previous, ignore_errors=True)


def recover_bundle(path: Path) -> None:
    """Put the bundle back that a save was about to replace, if it was killed between its two renames."""
    previous = path.with_name(path.name + ".previous")
    if previous.exists() and not path.exists():
        previous.rename(path)


def step_of(path: Path) -> int:
    """The step that a run's bundle is of; 0 if there is none, or it does not say."""
    try:
        step = read_json_object(path / "manifest.json").get("step")
    except UserError:
        return 0
    return step if isinstance(step, int) else 0


def load_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle, or any GPT-2 directory in Hugging Face layout with one safetensors file.

    Raises:
        UserError: the directory is missing or incomplete, a file does not match the manifest, the model is no GPT-2
            that this package computes, or the weights do not fit it.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(
            f"no bundle at {path}: expected a directory with config.json and model.safetensors"
        )
    manifest = _read_manifest(path) if (path / "manifest.json").exists() else {}
    model = read_model_config(read_json_object(path / "config.json"))
    try:
        tensors = load_file(path / "model.safetensors")
    except OSError as error:
        raise UserError(
            f"cannot read {path / 'model.safetensors'}: {error.strerror or error}"
        ) from error
    except (TypeError, AttributeError) as error:  # bfloat16 and smaller have no NumPy type
        raise UserError(
            f"{path / 'model.safetensors'} holds a type NumPy lacks: {error}; convert to float32"
        ) from error
    except (SafetensorError, ValueError) as error:  # ValueError: a shape that NumPy cannot have
        raise UserError(f"{path / 'model.safetensors'} is damaged: {error}") from error
    named = canonical_names(model, tensors)
    check_bundle(model, named)
    found = Bundle(model, named, Tokenizer.load(path / "tokenizer.json"), manifest)
    check_vocabulary(found, path)
    return found


def check_vocabulary(bundle: Bundle, path: Path) -> None:
    """Hold the tokenizer to the model's vocabulary.

    Raises:
        UserError: they have different sizes.
    """
    if bundle.tokenizer.vocab_size != bundle.model.vocab_size:
        sizes = f"tokenizer has {bundle.tokenizer.vocab_size} tokens, the model {bundle.model.vocab_size}"
        raise UserError(f"{path}: {sizes}; they must be the same")


def read_model_config(content: Mapping[str, Any]) -> ModelConfig:
    """The contents of a GPT-2 `config.json` as a ModelConfig.

    Raises:
        UserError: not a GPT-2, or with an option that this package does not compute.
    """
    computed: dict[str, Any] = {
        "model_type": "gpt2",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    }
    for key, value in computed.items():
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
            activation=_SAME_ACTIVATION.get(activation, activation),
            layer_norm_epsilon=content.get("layer_norm_epsilon", 1e-5),
            tie_word_embeddings=content.get("tie_word_embeddings", True),
            dropout=content.get("resid_pdrop", 0.1),
            init_std=content.get("initializer_range") or 0.02,
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"config.json is no GPT-2 configuration: {type(error).__name__} {error}"
        ) from error
    except ValidationError as error:
        raise UserError(f"config.json: {explain_error(error)}") from error
    if content.get("n_inner") not in (None, 4 * model.n_embd):
        raise UserError(
            f"config.json has n_inner = {content['n_inner']!r}; only 4 x n_embd is supported"
        )
    return model


def _json_files(bundle: Bundle) -> dict[str, Any]:
    model, end = bundle.model, bundle.tokenizer.special.get(END_OF_TEXT)
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


def canonical_names(
    model: ModelConfig, tensors: Mapping[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[np.float32]]:
    """Names as in the table: GPT-2's base model leaves out the prefix, and old files carry mask buffers."""
    named = {}
    for name, tensor in tensors.items():
        if name.endswith((".attn.bias", ".attn.masked_bias")):
            continue
        if not name.startswith(("transformer.", "lm_head.")):
            name = f"transformer.{name}"
        if name in named:
            raise UserError(
                f"weights do not fit the model: {name} is there with and without its prefix"
            )
        with np.errstate(
            all="ignore"
        ):  # what is too large for float32 becomes infinite, which `check` refuses
            named[name] = tensor.astype(np.float32) if tensor.dtype.kind == "f" else tensor
    if (
        model.tie_word_embeddings and "lm_head.weight" in named
    ):  # some files keep only one of the two
        named.setdefault("transformer.wte.weight", named.pop("lm_head.weight"))
    return named


def _read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a bundle whose files are those that it lists."""
    manifest = read_json_object(path / "manifest.json")
    version, hashes = manifest.get("format_version"), manifest.get("sha256")
    settings = manifest.get("config", {})
    if (
        not isinstance(version, int)
        or not isinstance(hashes, dict)
        or not isinstance(settings, dict)
    ):
        raise UserError(
            f"{path / 'manifest.json'} is damaged: format_version, sha256 or config is missing or wrong"
        )
    if version > FORMAT_VERSION:
        raise UserError(
            f"{path} has bundle format {version}; this version reads up to {FORMAT_VERSION}: upgrade to read it"
        )
    present = {file.name for file in path.iterdir() if file.is_file()}
    for name, digest in hashes.items():
        if Path(name).name != name:
            raise UserError(f"{path / 'manifest.json'} names {name!r}, which is outside the bundle")
        if name not in present:
            raise UserError(f"{path / name} is missing, though the manifest lists it")
        if sha256_of_file(path / name) != digest:
            raise UserError(
                f"{path / name} does not match the manifest: the file was changed or is damaged"
            )
    unlisted = [name for name in BUNDLE_FILES if name not in hashes]
    if unlisted:
        raise UserError(
            f"{path / 'manifest.json'} is damaged: it does not list {', '.join(unlisted)}"
        )
    return manifest


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
