"""Import of GPT-2 checkpoints: directories in Hugging Face layout, and checkpoints of nanoGPT."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bridge.importers import nanogpt, vocabulary
from bridge.importers.checkpoint_files import Array, Checkpoint, find_weights, read_checkpoint
from bridge.importers.tokenizer_files import read_end_name, read_tokenizer
from valyrian_jax.bundle.bundle import Bundle, check_bundle, check_vocabulary
from valyrian_jax.bundle.hf_format import (
    canonicalize_tensors,
    has_untied_head,
    read_model_config,
    tie_head,
)
from valyrian_jax.bundle.model_card import base_model_name, clean_name
from valyrian_jax.bundle.tensor_names import POSITIONS
from valyrian_jax.config import ModelConfig
from valyrian_jax.errors import UserError
from valyrian_jax.files import read_json_object


class ImportedModel(NamedTuple):
    """A bundle, and notes about what differs from the checkpoint, a line each."""

    bundle: Bundle
    notes: tuple[str, ...]


def read_gpt2(
    path: Path, tokenizer_path: Path | None = None, activation: str | None = None
) -> ImportedModel:
    """Read and check a GPT-2 checkpoint.

    Args:
        path: A directory with weights, or a file of weights. A tokenizer and, except for nanoGPT,
            a config.json lie beside the weights.
        tokenizer_path: A tokenizer.json, or a directory with a tokenizer, to use instead.
        activation: The GELU of a nanoGPT checkpoint, which does not tell it; None: gelu.

    Raises:
        UserError: A file is missing or damaged, the model is not a GPT-2, or files do not match.
    """
    if not path.exists():
        raise UserError(
            f"no directory at {path}: expected one with config.json and the weights of a GPT-2, or "
            "a file of weights; check the path"
        )
    directory = path if path.is_dir() else path.parent
    checkpoint = read_checkpoint(find_weights(path) if path.is_dir() else path)
    model, config_note = _read_model(checkpoint, directory, activation)
    model, tensors, head_note = _fit_layout(model, checkpoint)
    stored = read_tokenizer(tokenizer_path or directory)
    end_name = read_end_name(tokenizer_path or directory)
    tokenizer, end_note = vocabulary.set_end_of_text(stored, end_name)
    model, tensors, row_note = vocabulary.fit_rows(model, tensors, tokenizer, stored.vocab_size)
    notes = (config_note, head_note, end_note, row_note)
    bundle = Bundle(model, tensors, tokenizer, {"imported_from": _name_source(path)})
    check_vocabulary(bundle, path)
    return ImportedModel(bundle, tuple(note for note in notes if note))


def _read_model(
    checkpoint: Checkpoint, directory: Path, activation: str | None
) -> tuple[ModelConfig, str | None]:
    """Return the model that the checkpoint or its config.json describes, and perhaps a note."""
    if checkpoint.model_args is not None:
        model = nanogpt.read_model_args(checkpoint.model_args, activation or "gelu")
        return model, None if activation else nanogpt.ACTIVATION_NOTE
    if activation:
        raise UserError(
            f"--activation {activation} is for nanoGPT, whose checkpoints do not tell it; leave it "
            "out, and set activation_function in config.json"
        )
    if not (directory / "config.json").exists():
        raise UserError(
            f"the weights have no configuration: expected {directory / 'config.json'}, or "
            "model_args in the file as nanoGPT writes them; add one of them"
        )
    return read_model_config(read_json_object(directory / "config.json")), None


def _fit_layout(
    model: ModelConfig, checkpoint: Checkpoint
) -> tuple[ModelConfig, dict[str, Array], str | None]:
    """Return model and tensors in the layout of a bundle, and a note if the head is not tied."""
    canonical: dict[str, Array] = dict(canonicalize_tensors(checkpoint.tensors))
    if nanogpt.is_transposed(canonical):
        canonical = nanogpt.transpose(canonical)
    if checkpoint.model_args is not None:
        canonical = nanogpt.add_biases(canonical, model)
    note = None
    if model.tie_word_embeddings and has_untied_head(canonical):
        model = replace(model, tie_word_embeddings=False)
        note = "the head differs from the token embedding, so the two are not tied"
    elif model.tie_word_embeddings:
        canonical = tie_head(canonical)
    _check_architecture(canonical)
    check_bundle(model, canonical)
    return model, canonical, note


def _check_architecture(tensors: Mapping[str, Array]) -> None:
    """Check for other positions and norms, which a list of missing tensors would not explain."""
    norm = "transformer.h.0.ln_1"
    if f"{norm}.weight" not in tensors:
        return
    if POSITIONS not in tensors:
        raise UserError(
            f"the weights have no {POSITIONS}: only learned positions are supported, neither "
            "rotary nor others; import another model"
        )
    if f"{norm}.bias" not in tensors:
        raise UserError(
            f"the weights have {norm}.weight but no {norm}.bias, as RMSNorm has: only LayerNorm is "
            "supported; import another model"
        )


def _name_source(path: Path) -> str:
    """Return the name of a directory or run, or of a file without its ending."""
    path = path.resolve()
    return base_model_name({}, path) if path.is_dir() else clean_name(path.stem)
