"""The bundle: trained weights as a Hugging Face GPT-2 directory, the format that all sides share.

A bundle contains `config.json`, `model.safetensors` (float32, GPT-2's names, matrices [in, out]),
`tokenizer.json`, `tokenizer_config.json`, `generation_config.json`, `manifest.json` and a model
card, `README.md`. `transformers` opens it unmodified. A GPT-2 directory with one file of float32 or
float16 weights and a tokenizer.json loads as a bundle with an empty manifest; `bridge.importers`
reads the others.
"""

import contextlib
import json
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as serialize

from valyrian_jax.bundle.hf_format import (
    canonicalize_tensors,
    has_untied_head,
    make_json_files,
    read_model_config,
    tie_head,
)
from valyrian_jax.bundle.model_card import make_card
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
_LISTED_PROBLEMS = 10
_REQUIRED_FILES = ("config.json", "model.safetensors", "tokenizer.json")
_WEIGHT_SUFFIXES = (
    ".safetensors",
    ".safetensors.index.json",
    ".bin",
    ".bin.index.json",
    ".pt",
    ".pth",
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
            line lists the first problems.
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
        listed = "; ".join(sorted(problems)[:_LISTED_PROBLEMS])
        if len(problems) > _LISTED_PROBLEMS:
            listed += f"; and {len(problems) - _LISTED_PROBLEMS:,} more"
        raise UserError(f"weights do not fit the model: {listed}")


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
    # Not in the manifest: its owner may edit it, and nothing reads it.
    card = make_card(bundle.model, bundle.manifest)
    (partial / "README.md").write_text(card, encoding="utf-8")

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
    """Read a bundle, or a GPT-2 directory that needs no conversion.

    Raises:
        UserError: The directory is missing or incomplete, a file does not match the manifest, the
            model is not a supported GPT-2, or the weights do not fit it.
    """
    path = Path(path)
    check_is_bundle(path)
    if (path / "manifest.json").exists():
        return _read_bundle(path, _read_manifest(path))
    with _suggest_import(path):
        return _read_bundle(path, {})


def _read_bundle(path: Path, manifest: dict[str, Any]) -> Bundle:
    model = read_model_config(read_json_object(path / "config.json"))
    tensors = canonicalize_tensors(_read_tensors(path / "model.safetensors"))
    if model.tie_word_embeddings:
        if has_untied_head(tensors):
            raise UserError(
                "config.json has tie_word_embeddings = True, but lm_head.weight differs from the "
                "token embedding"
            )
        tensors = tie_head(tensors)
    check_bundle(model, tensors)
    bundle = Bundle(model, tensors, Tokenizer.load(path / "tokenizer.json"), manifest)
    check_vocabulary(bundle, path)
    _ = bundle.tokenizer.end_of_text  # fails now if the vocabulary has no token that ends a text
    return bundle


def check_is_bundle(path: Path) -> None:
    """Check that a path is a bundle, or a directory with the files that loading needs.

    Raises:
        UserError: It is not. The message says what it is instead, and what to do.
    """
    missing = [name for name in _REQUIRED_FILES if not (path / name).exists()]
    if path.is_dir() and (not missing or (path / "manifest.json").exists()):
        return  # a manifest names what is missing
    expected = f"expected a directory with {', '.join(_REQUIRED_FILES)}"
    if not path.exists():
        raise UserError(f"no bundle at {path}: {expected}; check the path")
    if (path / "config.toml").exists():
        raise UserError(
            f"{path} is a run directory, expected the bundle in it; pass {path / 'bundle'}, which "
            "`python train.py` writes at the first evaluation"
        )
    found = f"no {', '.join(missing)} in it" if path.is_dir() else "a file"
    advice = f"{_import_hint(path)} first" if holds_weights(path) else "check the path"
    raise UserError(f"{path} is not a bundle: {expected}, found {found}; {advice}")


def holds_weights(path: Path) -> bool:
    """Return whether a path is a file of weights, or a directory with one or a config.json."""
    files = [file.name for file in path.iterdir()] if path.is_dir() else [path.name]
    return any(name.endswith(_WEIGHT_SUFFIXES) or name == "config.json" for name in files)


def _import_hint(path: Path) -> str:
    return f"import it: run `python -m bridge import {shlex.quote(str(path))} -o NEW`"


@contextlib.contextmanager
def _suggest_import(path: Path) -> Iterator[None]:
    """Add to an error that a directory of another program must be imported first."""
    try:
        yield
    except UserError as error:
        raise UserError(
            f"{error}; if another program wrote {path}, {_import_hint(path)} first"
        ) from error


def _read_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        tensors = load_file(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (TypeError, AttributeError) as error:  # bfloat16 and smaller types
        raise UserError(f"{path} has a type that NumPy lacks: {error}; expected float32") from error
    except (SafetensorError, ValueError) as error:  # ValueError: a shape that NumPy cannot have
        raise UserError(f"{path} is damaged: {error}; copy it again") from error
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "V":  # the same types, where JAX has taught them to NumPy
            raise UserError(f"{path} has {name} in {tensor.dtype}; expected float32")
    return tensors


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
                f"{path / name} does not match the manifest: it was changed or is damaged; copy "
                "the bundle again"
            )
    unlisted = [name for name in BUNDLE_FILES if name not in hashes]
    if unlisted:
        raise UserError(f"{file} is damaged: it does not list {', '.join(unlisted)}")
    return manifest


def read_bundle_step(path: Path) -> int:
    """Return the step of a run's bundle, or 0 if there is no bundle or no step in it."""
    step = _read_manifest_entry(path, "step")
    return step if isinstance(step, int) else 0


def read_base_model(path: Path) -> str | None:
    """Return the base model that the manifest of a bundle names, or None."""
    name = _read_manifest_entry(path, "base_model")
    return name if isinstance(name, str) else None


def _read_manifest_entry(path: Path, key: str) -> Any:
    try:
        return read_json_object(path / "manifest.json").get(key)
    except UserError:
        return None
