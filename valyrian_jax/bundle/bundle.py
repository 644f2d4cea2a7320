"""The bundle: trained weights as a Hugging Face GPT-2 directory, the format that all sides share.

A bundle contains `config.json`, `model.safetensors` (float32, GPT-2's names, matrices [in, out]),
`tokenizer.json`, `tokenizer_config.json`, `generation_config.json`, `manifest.json` and a model
card, `README.md`. `transformers` opens it unmodified. A GPT-2 directory with one file of float32 or
float16 weights and a tokenizer.json loads as a bundle with an empty manifest; `bridge.importers`
reads the others.
"""

import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save as serialize

from valyrian_jax.bundle.foreign_directory import check_is_bundle, suggest_import
from valyrian_jax.bundle.hf_format import (
    canonicalize_tensors,
    has_untied_head,
    make_json_files,
    read_model_config,
    tie_head,
)
from valyrian_jax.bundle.memory import check_memory, estimate_memory
from valyrian_jax.bundle.model_card import make_card
from valyrian_jax.bundle.names import Tensors, parameter_shapes
from valyrian_jax.bundle.weights_file import check_weights_file, max_file_size, read_weights
from valyrian_jax.config import ModelConfig
from valyrian_jax.errors import UserError
from valyrian_jax.files import (
    MAX_BYTES,
    check_output_directory,
    check_regular,
    make_temporary_directory,
    memory_bytes,
    name_errors,
    read_json_object,
    remove_temporaries,
    sha256_of_file,
    write_json,
)
from valyrian_jax.tokenizer import Tokenizer

FORMAT_VERSION = 1
WEIGHTS_NAME = "model.safetensors"
BUNDLE_FILES = (
    WEIGHTS_NAME,
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
)
_MAX_PROBLEMS = 20  # that a message lists


@dataclass(frozen=True)
class Bundle:
    """Weights with everything that is needed to use them."""

    model: ModelConfig
    tensors: Tensors
    tokenizer: Tokenizer
    manifest: Mapping[str, Any] = field(default_factory=dict)


def check_bundle(config: ModelConfig, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Check tensors against the name table."""
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
            problems.append(f"{name} contains values that are not finite")
    if problems:
        listed = sorted(problems)[:_MAX_PROBLEMS]
        listed += [f"and {len(problems) - len(listed):,} more"] * (len(problems) > len(listed))
        raise UserError(
            f"weights do not fit the model: {'; '.join(listed)}; check that they belong to this "
            "configuration"
        )


def check_vocabulary(bundle: Bundle, path: Path) -> None:
    """Check that the tokenizer and the model have the same vocabulary size."""
    if bundle.tokenizer.vocab_size != bundle.model.vocab_size:
        raise UserError(
            f"vocabulary mismatch in {path}: the tokenizer has {bundle.tokenizer.vocab_size} "
            f"tokens, the model {bundle.model.vocab_size}; use the tokenizer of this model"
        )


def save_bundle(bundle: Bundle, path: str | os.PathLike[str]) -> None:
    """Write a bundle; the old one stays until the new one is complete.

    A kill between the two renames leaves the old one under another name (see `recover_bundle`).

    Args:
        bundle: Content of the directory. All entries of its manifest are written, such as the
            configuration of the run.
        path: Directory, or a link to one; an existing bundle is replaced. Its parent must exist: a
            run whose directory was deleted must not create a new one.

    Raises:
        UserError: The weights do not fit the model, or something other than a directory is there.
    """
    check_bundle(bundle.model, bundle.tensors)
    target = Path(os.path.realpath(path))
    check_output_directory(target)
    partial = make_temporary_directory(target)
    try:
        with name_errors(target, partial):
            _write_files(bundle, partial)
        previous = target.with_name(f".{target.name}.{secrets.token_hex(8)}.previous")
        if target.exists():
            target.rename(previous)
        partial.rename(target)
        shutil.rmtree(previous, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_files(bundle: Bundle, directory: Path) -> None:
    # safetensors writes the memory buffer, so it would write a transposed view wrongly.
    weights = {
        name: np.ascontiguousarray(tensor, dtype=np.float32)
        for name, tensor in bundle.tensors.items()
    }
    (directory / WEIGHTS_NAME).write_bytes(serialize(weights, metadata={"format": "pt"}))
    bundle.tokenizer.save(directory / "tokenizer.json")
    for name, content in make_json_files(bundle.model, bundle.tokenizer).items():
        write_json(directory / name, content)
    hashes = {file.name: sha256_of_file(file) for file in sorted(directory.iterdir())}
    manifest = {**bundle.manifest, "format_version": FORMAT_VERSION, "sha256": hashes}
    write_json(directory / "manifest.json", manifest)
    # The manifest does not list the card: the owner may edit it, and no code reads it.
    card = make_card(bundle.model, bundle.manifest)
    (directory / "README.md").write_text(card, encoding="utf-8")


def recover_bundle(path: Path) -> None:
    """Restore the previous bundle if a save was killed between its two renames, and clean up.

    Only a process that has locked the directory of the bundle may call this.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        return
    if not target.exists() and (previous := find_previous(path)):
        previous.rename(target)
    remove_temporaries(target)
    for leftover in _list_previous(target):
        shutil.rmtree(leftover, ignore_errors=True)


def find_previous(path: Path) -> Path | None:
    """Return the previous bundle that a save of `path` left when it was killed, or None."""
    target = Path(os.path.realpath(path))
    old_name = target.with_name(f"{target.name}.previous")  # the name that version 0.1 gave it
    is_bundle = (old_name / "manifest.json").is_file()
    candidates = [*_list_previous(target), *([old_name] if is_bundle else [])]
    return max(candidates, key=lambda file: file.stat().st_mtime_ns, default=None)


def _list_previous(target: Path) -> list[Path]:
    name = re.compile(re.escape(f".{target.name}.") + r"[0-9a-f]{16}\.previous")
    files = target.parent.iterdir() if target.parent.is_dir() else ()
    return [file for file in files if name.fullmatch(file.name)]


def load_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle, or a GPT-2 directory that needs no conversion.

    Raises:
        UserError: The directory is missing or incomplete, a file does not match the manifest, the
            model is not a supported GPT-2, or the weights do not fit it.
    """
    path = Path(path)
    check_is_bundle(path)
    manifest = _read_manifest(path) if (path / "manifest.json").exists() else None
    model = read_model_config(read_json_object(path / "config.json"))
    check_memory(
        estimate_memory(model).weights,
        memory_bytes(),
        f"loading {path}",
        "use a machine with more memory",
    )
    if manifest is not None:
        return _read_bundle(path, model, manifest)
    with suggest_import(path):
        return _read_bundle(path, model, {})


def _read_bundle(path: Path, model: ModelConfig, manifest: dict[str, Any]) -> Bundle:
    weights, max_bytes = path / WEIGHTS_NAME, max_file_size(model)
    if manifest:
        check_weights_file(weights, max_bytes)  # Hashing a file that is far too large takes long.
        _check_hash(weights, manifest["sha256"][WEIGHTS_NAME])
    tensors = canonicalize_tensors(read_weights(weights, max_bytes))
    if model.tie_word_embeddings:
        if has_untied_head(tensors):
            raise UserError(
                "config.json has tie_word_embeddings = True, but lm_head.weight differs from the "
                "token embedding; set it to false"
            )
        tensors = tie_head(tensors)
    check_bundle(model, tensors)
    bundle = Bundle(model, tensors, Tokenizer.load(path / "tokenizer.json"), manifest)
    check_vocabulary(bundle, path)
    _ = bundle.tokenizer.end_of_text  # fails now if the vocabulary has no token that ends a text
    return bundle


def _read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a bundle and check that every file but the weights matches it."""
    file = path / "manifest.json"
    manifest = read_json_object(file)
    version, hashes = manifest.get("format_version"), manifest.get("sha256")
    has_settings = isinstance(manifest.get("config", {}), dict)
    if not isinstance(version, int) or not isinstance(hashes, dict) or not has_settings:
        raise UserError(
            f"{file} is damaged: format_version, sha256 or config is missing or wrong; copy the "
            "bundle again"
        )
    if version > FORMAT_VERSION:
        raise UserError(
            f"{path} has bundle format {version}; this version reads up to {FORMAT_VERSION}: "
            "upgrade to read it"
        )
    present = {entry.name for entry in path.iterdir() if entry.is_file()}
    for name, digest in hashes.items():
        if Path(name).name != name:
            raise UserError(
                f"{file} names {name!r}, which is outside the bundle: expected names of its own "
                "files; do not use this bundle"
            )
        if name not in present:
            raise UserError(
                f"{path / name} is missing, but the manifest lists it; copy the bundle again"
            )
        if name != WEIGHTS_NAME:
            check_regular(path / name, max_bytes=MAX_BYTES)
            _check_hash(path / name, digest)
    unlisted = [name for name in BUNDLE_FILES if name not in hashes]
    if unlisted:
        raise UserError(
            f"{file} is damaged: it does not list {', '.join(unlisted)}; copy the bundle again"
        )
    return manifest


def _check_hash(file: Path, digest: str) -> None:
    """Check that a file of a bundle has the SHA-256 that the manifest lists."""
    if sha256_of_file(file) != digest:
        raise UserError(
            f"{file} does not match the manifest: it was changed or is damaged; copy the "
            "bundle again"
        )


def read_bundle_step(path: Path) -> int:
    """Return the step of a run's bundle, or 0 if there is no bundle or no step in it."""
    try:
        step = read_json_object(path / "manifest.json").get("step")
    except UserError:
        return 0
    return step if isinstance(step, int) else 0
