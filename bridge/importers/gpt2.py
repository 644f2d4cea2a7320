"""Import of GPT-2 models: Hugging Face directories, checkpoints of nanoGPT, and GGUF files."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bridge.gguf.reader import is_gguf
from bridge.importers import gguf_file, nanogpt, vocabulary
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
from valyrian_jax.tokenizer import Tokenizer


class ImportedModel(NamedTuple):
    """A bundle, and notes about what differs from the checkpoint, one line each."""

    bundle: Bundle
    notes: tuple[str, ...]


def read_gpt2(
    path: Path, tokenizer_path: Path | None = None, activation: str | None = None
) -> ImportedModel:
    """Read and check a GPT-2 checkpoint.

    Args:
        path: A GGUF file, a directory with weights, or another file of weights. Beside weights that
            are not GGUF lie a tokenizer and, except for nanoGPT, a config.json.
        tokenizer_path: A tokenizer.json, or a directory with a tokenizer, to use instead.
        activation: The GELU of a nanoGPT checkpoint, which does not record it; None: gelu.

    Raises:
        UserError: A file is missing or damaged, the model is not a GPT-2, or files do not match.
    """
    if not path.exists():
        raise UserError(
            f"{path} does not exist: expected a directory with config.json and the weights of a "
            "GPT-2, or a file of weights; check the path"
        )
    checkpoint, model, note = _read_weights(path, activation)
    model, tensors, head_note = _fit_layout(model, checkpoint)
    stored, end_name, unused = _read_stored_tokenizer(path, tokenizer_path)
    tokenizer, end_note = vocabulary.set_end_of_text(stored, end_name)
    model, tensors, row_note = vocabulary.fit_rows(
        model, tensors, tokenizer, stored.vocab_size, unused
    )
    notes = (note, head_note, end_note, row_note)
    bundle = Bundle(model, tensors, tokenizer, {"imported_from": _name_source(path)})
    check_vocabulary(bundle, path)
    return ImportedModel(bundle, tuple(note for note in notes if note))


def _read_weights(path: Path, activation: str | None) -> tuple[Checkpoint, ModelConfig, str | None]:
    """Return the weights, the model that the file or its config.json describes, and a note."""
    is_self_contained = is_gguf(path)
    if is_self_contained:
        model, tensors = gguf_file.read_model(path)
        checkpoint = Checkpoint(tensors, None)
    else:
        checkpoint = read_checkpoint(find_weights(path) if path.is_dir() else path)
    if checkpoint.model_args is not None:
        model = nanogpt.read_model_args(checkpoint.model_args, activation or "gelu")
        return checkpoint, model, None if activation else nanogpt.ACTIVATION_NOTE
    if activation:
        raise UserError(
            f"--activation {activation} is for nanoGPT, whose checkpoints do not record it; leave "
            "it out, and set activation_function in config.json"
        )
    if is_self_contained:
        return checkpoint, model, None
    config = (path if path.is_dir() else path.parent) / "config.json"
    if not config.exists():
        raise UserError(
            f"the weights have no configuration: expected {config}, or "
            "model_args in the file as nanoGPT writes them; add one of them"
        )
    return checkpoint, read_model_config(read_json_object(config)), None


def _read_stored_tokenizer(
    path: Path, tokenizer_path: Path | None
) -> tuple[Tokenizer, str | None, int]:
    """Return a tokenizer, the name of its token that ends a text, and its unused tokens."""
    if tokenizer_path is None and is_gguf(path):
        return gguf_file.read_tokenizer(path)
    source = tokenizer_path or (path if path.is_dir() else path.parent)
    return read_tokenizer(source), read_end_name(source), 0


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
    """Reject other positions and norms, which a list of missing tensors would not explain."""
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
