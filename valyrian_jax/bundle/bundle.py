"""The bundle: trained weights as a Hugging Face GPT-2 directory, the format that all sides share.

A bundle contains `config.json`, `model.safetensors` (float32, GPT-2's names, matrices [in, out]),
`tokenizer.json`, `tokenizer_config.json`, `generation_config.json` and `manifest.json`.
`transformers` opens it unmodified. Any GPT-2 directory loads as a bundle with an empty manifest.
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
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as serialize

from valyrian_jax.bundle.hf_format import canonicalize_tensors, make_json_files, read_model_config
from valyrian_jax.bundle.names import Tensors, parameter_shapes
from valyrian_jax.config import ModelConfig
from valyrian_jax.errors import UserError
from valyrian_jax.files import read_json_object, sha256_of_file
from valyrian_jax.tokenizer import Tokenizer

FORMAT_VERSION = 1
BUNDLE_FILES = (
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
)


@dataclass(frozen=True)
class Bundle:
    """Weights with everything that is needed to use them."""

    model: ModelConfig
    tensors: Tensors
    tokenizer: Tokenizer
    manifest: Mapping[str, Any] = field(default_factory=dict)


def check_bundle(config: ModelConfig, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Check tensors against the name table.

    Raises:
        UserError: A name is missing or unknown, a shape is wrong, or a value is not finite. One
            line lists all problems.
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
            problems.append(f"{name} contains values that are not finite")
    if problems:
        raise UserError("weights do not fit the model: " + "; ".join(sorted(problems)))


def check_vocabulary(bundle: Bundle, path: Path) -> None:
    """Check that the tokenizer and the model have the same vocabulary size.

    Raises:
        UserError: The sizes differ.
    """
    if bundle.tokenizer.vocab_size != bundle.model.vocab_size:
        raise UserError(
            f"vocabulary mismatch in {path}: the tokenizer has {bundle.tokenizer.vocab_size} "
            f"tokens, the model {bundle.model.vocab_size}; use the tokenizer of this model"
        )


def save_bundle(bundle: Bundle, path: str | os.PathLike[str]) -> None:
    """Write a bundle; the old one stays until the new one is complete.

    A kill between the two renames leaves the old one as bundle.previous (see `recover_bundle`).

    Args:
        bundle: Content of the directory. The file keeps all entries of its manifest, such as the
            config of the run.
        path: Directory; an existing bundle is replaced.

    Raises:
        UserError: The weights do not fit the model.
    """
    check_bundle(bundle.model, bundle.tensors)
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    previous = path.with_name(path.name + ".previous")
    recover_bundle(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)

    # safetensors writes the memory buffer, so it would write a transposed view wrongly.
    weights = {
        name: np.ascontiguousarray(tensor, dtype=np.float32)
        for name, tensor in bundle.tensors.items()
    }
    (partial / "model.safetensors").write_bytes(serialize(weights, metadata={"format": "pt"}))
    bundle.tokenizer.save(partial / "tokenizer.json")
    for name, content in make_json_files(bundle.model, bundle.tokenizer).items():
        _write_json(partial / name, content)
    hashes = {file.name: sha256_of_file(file) for file in sorted(partial.iterdir())}
    manifest = {**bundle.manifest, "format_version": FORMAT_VERSION, "sha256": hashes}
    _write_json(partial / "manifest.json", manifest)

    shutil.rmtree(previous, ignore_errors=True)
    if path.exists():
        path.rename(previous)
    partial.rename(path)
    shutil.rmtree(previous, ignore_errors=True)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def recover_bundle(path: Path) -> None:
    """Restore the previous bundle if a save was killed between its two renames."""
    previous = path.with_name(path.name + ".previous")
    if previous.exists() and not path.exists():
        previous.rename(path)


def load_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle, or any GPT-2 directory of Hugging Face with one safetensors file.

    Raises:
        UserError: The directory is missing or incomplete, a file does not match the manifest, the
            model is not a supported GPT-2, or the weights do not fit it.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(
            f"no bundle at {path}: expected a directory with config.json and model.safetensors"
        )
    manifest = _read_manifest(path) if (path / "manifest.json").exists() else {}
    model = read_model_config(read_json_object(path / "config.json"))
    tensors = canonicalize_tensors(model, _read_tensors(path / "model.safetensors"))
    check_bundle(model, tensors)
    bundle = Bundle(model, tensors, Tokenizer.load(path / "tokenizer.json"), manifest)
    check_vocabulary(bundle, path)
    return bundle


def _read_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        return load_file(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (TypeError, AttributeError) as error:  # bfloat16 and smaller types
        raise UserError(
            f"{path} contains a type that NumPy lacks: {error}; convert it to float32"
        ) from error
    except (SafetensorError, ValueError) as error:  # ValueError: a shape that NumPy cannot have
        raise UserError(f"{path} is damaged: {error}; copy or export it again") from error


def _read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a bundle and check that every file matches it."""
    file = path / "manifest.json"
    manifest = read_json_object(file)
    version, hashes = manifest.get("format_version"), manifest.get("sha256")
    has_settings = isinstance(manifest.get("config", {}), dict)
    if not isinstance(version, int) or not isinstance(hashes, dict) or not has_settings:
        raise UserError(f"{file} is damaged: format_version, sha256 or config is missing or wrong")
    if version > FORMAT_VERSION:
        raise UserError(
            f"{path} has bundle format {version}; this version reads up to {FORMAT_VERSION}: "
            "upgrade to read it"
        )
    present = {entry.name for entry in path.iterdir() if entry.is_file()}
    for name, digest in hashes.items():
        if Path(name).name != name:
            raise UserError(f"{file} names {name!r}, which is outside the bundle")
        if name not in present:
            raise UserError(f"{path / name} is missing, but the manifest lists it")
        if sha256_of_file(path / name) != digest:
            raise UserError(
                f"{path / name} does not match the manifest: it was changed or is damaged; copy or "
                "export the bundle again"
            )
    unlisted = [name for name in BUNDLE_FILES if name not in hashes]
    if unlisted:
        raise UserError(f"{file} is damaged: it does not list {', '.join(unlisted)}")
    return manifest


def read_bundle_step(path: Path) -> int:
    """Return the step of a run's bundle, or 0 if there is no bundle or no step in it."""
    try:
        step = read_json_object(path / "manifest.json").get("step")
    except UserError:
        return 0
    return step if isinstance(step, int) else 0
