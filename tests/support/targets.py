"""Fuzzing targets for bundles, tokenizers, configurations and logs.

A target has the undamaged files, a way to damage them, and a reader. The reader also checks what an
accepted file must be able to do.
"""

import functools
import hashlib
import json
import random
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.fuzzing import Files, Target
from tests.support.mutating import damage_bytes, damage_json, damage_json_text, to_json
from valyrian_jax import run_directory
from valyrian_jax.bundle.bundle import Bundle, check_bundle, load_bundle, save_bundle
from valyrian_jax.bundle.names import parameter_shapes
from valyrian_jax.bundle.text_generation import resolve_sample_config
from valyrian_jax.config import (
    Config,
    ModelConfig,
    config_to_toml,
    config_to_tree,
    load_config,
)
from valyrian_jax.data.corpus_entropy import load_source
from valyrian_jax.run_directory import truncate_logs
from valyrian_jax.tokenizer import Tokenizer, train_bpe

MODEL = ModelConfig(vocab_size=260, n_positions=4, n_embd=4, n_layer=1, n_head=2)
TEXT = "aaab Ȳdra daor\n\n".encode() + b"\0\xff"


@functools.cache
def make_tokenizer() -> Tokenizer:
    return train_bpe("aaab aaab ab", MODEL.vocab_size)


@functools.cache
def make_bundle_files() -> Files:
    """Return the files of a small bundle as `train.py` writes them."""
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(MODEL)
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    manifest = {"config": config_to_tree(Config(model=MODEL)), "step": 7, "corpus_sha256": "0" * 64}
    with tempfile.TemporaryDirectory() as name:
        save_bundle(Bundle(MODEL, tensors, make_tokenizer(), manifest), Path(name) / "b")
        return {path.name: path.read_bytes() for path in sorted((Path(name) / "b").iterdir())}


def make_damage(
    names: tuple[str, ...], damage: Callable[[random.Random, bytes], bytes] = damage_json_text
) -> Callable[[random.Random, Files], Files]:
    """Return a function that damages one of the named files."""

    def damage_file(draw: random.Random, files: Files) -> Files:
        name = draw.choice(names)
        return files | {name: damage(draw, files[name])}

    return damage_file


def exercise_tokenizer(tokenizer: Tokenizer) -> None:
    """Check what any accepted tokenizer must be able to do."""
    assert tokenizer.decode_bytes(tokenizer.encode_bytes(TEXT)) == TEXT
    name, i = next(iter(tokenizer.special.items()), ("a", None))
    assert i in (None, *tokenizer.encode(name, tokenizer.special))


def read_tokenizer(directory: Path) -> None:
    exercise_tokenizer(Tokenizer.load(directory / "tokenizer.json"))


def exercise_bundle(bundle: Bundle) -> None:
    """Check that the weights fit the model and that tokenizer and settings can be used."""
    check_bundle(bundle.model, bundle.tensors)
    assert {tensor.dtype for tensor in bundle.tensors.values()} == {np.dtype(np.float32)}
    exercise_tokenizer(bundle.tokenizer)
    resolve_sample_config(bundle, {})


def read_bundle(directory: Path) -> None:
    exercise_bundle(load_bundle(directory))


# A bundle with its manifest: the hashes must reveal every changed byte.


def damage_bundle(draw: random.Random, files: Files) -> Files:
    """Change any file of a bundle, and sometimes the manifest and another file."""
    name = draw.choice(sorted(files))
    damage = damage_json_text if name.endswith(".json") else damage_bytes
    while (changed := damage(draw, files[name])) == files[name]:
        pass
    if name == "manifest.json" and draw.random() < 0.5:
        other = draw.choice(sorted(files.keys() - {name}))  # the manifest may no longer list it
        files[other] = files[other][:-1] + b" "
    return files | {name: changed}


def read_verified_bundle(directory: Path) -> None:
    bundle, files = load_bundle(directory), make_bundle_files()
    for path in directory.iterdir():
        has_hash = path.name not in ("manifest.json", "README.md")
        unchanged = not has_hash or path.read_bytes() == files[path.name]
        assert unchanged, f"{path.name} was changed"
    exercise_bundle(bundle)


# A bundle from a stranger: no manifest, or one that matches, so that the parsers see the damage.


def damage_weights(draw: random.Random, data: bytes) -> bytes:
    """Damage the header of a safetensors file and correct its length, or damage any bytes."""
    if draw.random() < 0.3:
        return damage_bytes(draw, data)
    (length,) = struct.unpack("<Q", data[:8])
    header = damage_json_text(draw, data[8 : 8 + length])
    rest = data[8 + length :] if draw.random() < 0.8 else damage_bytes(draw, data[8 + length :])
    return struct.pack("<Q", len(header)) + header + rest


def damage_foreign_bundle(draw: random.Random, files: Files) -> Files:
    """Damage a file; the manifest matches it, is missing, or is damaged itself."""
    manifest = json.loads(files.pop("manifest.json"))
    name = draw.choice(("config.json", "model.safetensors", "tokenizer.json", "manifest.json"))
    if name != "manifest.json":
        damage = damage_weights if name.endswith(".safetensors") else damage_json_text
        files[name] = damage(draw, files[name])
        if draw.random() < 0.5:
            return files
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest["sha256"] = hashes
    if name == "manifest.json":
        del manifest["sha256"]
        manifest = damage_json(draw, manifest)
        if isinstance(manifest, dict):
            manifest["sha256"] = hashes
    return files | {"manifest.json": to_json(draw, manifest)}


# Configurations in TOML, with most values written as in JSON.


def damage_toml(draw: random.Random, files: Files) -> Files:
    text = files["config.toml"]
    if draw.random() < 0.4:
        return {"config.toml": damage_bytes(draw, text)}
    tree = damage_json(draw, config_to_tree(load_config()))
    lines: list[str] = []
    for section, values in tree.items() if isinstance(tree, dict) else [("x", tree)]:
        if isinstance(values, dict):
            lines.append(f"[{section}]")
            lines += [f"{name} = {to_json(draw, value).decode()}" for name, value in values.items()]
        else:
            lines.insert(0, f"{section} = {to_json(draw, values).decode()}")
    return {"config.toml": "\n".join(lines).encode("utf-8", "surrogatepass")}


def read_config(directory: Path) -> None:
    config = load_config(directory / "config.toml")
    assert not any("\0" in value for value in (config.data.path, config.data.tokenizer))
    (directory / "again.toml").write_text(config_to_toml(config), encoding="utf-8")
    assert load_config(directory / "again.toml") == config


# The log of a run, and the entropy of its corpus.


def make_metrics_files() -> Files:
    records: list[dict[str, Any]] = [
        {"step": step, "train/loss": 6.5 - step / 10, "lr": 1e-3} for step in range(1, 7)
    ]
    records.insert(2, {"step": 2, "samples": ["the dragon\n", "sees \u2028 a wolf"]})
    records.insert(5, {"step": 4, "held_out/nats_per_token": 5.0, "held_out/bits_per_byte": 3.0})
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    return {"metrics.jsonl": "".join(lines).encode()}


def damage_metrics(draw: random.Random, files: Files) -> Files:
    lines = files["metrics.jsonl"].splitlines(keepends=True)
    if draw.random() < 0.3:
        return {"metrics.jsonl": damage_bytes(draw, files["metrics.jsonl"])}
    index = draw.randrange(len(lines))
    lines[index] = damage_json_text(draw, lines[index]) + b"\n"
    return {"metrics.jsonl": b"".join(lines)}


def read_metrics(directory: Path) -> None:
    """Read the log as `plot` does, then as a resumed run does."""
    for record in run_directory.read_metrics(directory):
        for key in ("train/loss", "held_out/nats_per_token"):
            assert isinstance(record.get(key), float | int | None), record
            float(record.get(key) or 0), float(record["step"])
    truncate_logs(directory, 3)
    assert all(record["step"] <= 3 for record in run_directory.read_metrics(directory))


def make_source_files() -> Files:
    record = {"sha256": "0" * 64, "excess": 0.007, "bits": [100.5, 200.25, 300.125]}
    return {"text.source.json": json.dumps(record).encode()}


def read_source(directory: Path) -> None:
    source = load_source(directory / "text.txt", "0" * 64)
    if source is not None:
        assert np.isfinite([source.excess, *source.bits]).all()


TARGETS = {
    "tokenizer": Target(
        lambda: {"tokenizer.json": make_bundle_files()["tokenizer.json"]},
        make_damage(("tokenizer.json",)),
        read_tokenizer,
    ),
    "bundle": Target(make_bundle_files, damage_bundle, read_verified_bundle),
    "foreign bundle": Target(make_bundle_files, damage_foreign_bundle, read_bundle),
    "config": Target(
        lambda: {"config.toml": config_to_toml(Config()).encode()}, damage_toml, read_config
    ),
    "metrics": Target(make_metrics_files, damage_metrics, read_metrics),
    "source": Target(make_source_files, make_damage(("text.source.json",)), read_source),
}
