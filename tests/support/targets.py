"""The readers that `tests.support.fuzzing` attacks: their files, damage to them, and what an accepted one must do."""

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
from tests.support.mutating import damaged_bytes, damaged_json, damaged_text_of, written
from valyrian_jax import run_directory
from valyrian_jax.__main__ import token_ids
from valyrian_jax.bundle.bundle import Bundle, check_bundle, load_bundle, save_bundle
from valyrian_jax.bundle.names import parameter_shapes
from valyrian_jax.bundle.text_generation import resolve_sample_config
from valyrian_jax.config import Config, ModelConfig, config_to_toml, config_to_tree, load_config
from valyrian_jax.data import shard_dataset, shards
from valyrian_jax.data.corpus_entropy import load_source
from valyrian_jax.data.shard_split import split_shards
from valyrian_jax.run_directory import truncate_logs
from valyrian_jax.tokenizer import Tokenizer, train_bpe

MODEL = ModelConfig(vocab_size=260, n_positions=4, n_embd=4, n_layer=1, n_head=2)
SAMPLE = "aaab Ȳdra daor\n\n".encode() + b"\0\xff"


@functools.cache
def tokenizer() -> Tokenizer:
    return train_bpe("aaab aaab ab", MODEL.vocab_size)


@functools.cache
def bundle_files() -> Files:
    """The files of a small bundle as `train.py` leaves it."""
    draw = np.random.default_rng(0)
    shapes = parameter_shapes(MODEL)
    tensors = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    facts = {"config": config_to_tree(Config(model=MODEL)), "step": 7, "corpus_sha256": "0" * 64}
    with tempfile.TemporaryDirectory() as name:
        save_bundle(Bundle(MODEL, tensors, tokenizer(), facts), Path(name) / "b")
        return {path.name: path.read_bytes() for path in sorted((Path(name) / "b").iterdir())}


def some(
    names: tuple[str, ...], damage: Callable[[random.Random, bytes], bytes] = damaged_text_of
) -> Any:
    """A damage to one of the files of these names."""

    def change(draw: random.Random, files: Files) -> Files:
        name = draw.choice(names)
        return files | {name: damage(draw, files[name])}

    return change


def use_tokenizer(found: Tokenizer) -> None:
    """Everything that a tokenizer promises, whatever file it comes from."""
    assert found.decode_bytes(found.encode_bytes(SAMPLE)) == SAMPLE
    name, i = next(iter(found.special.items()), ("a", None))
    assert i in (None, *found.encode(name, found.special))


def read_tokenizer(directory: Path) -> None:
    use_tokenizer(Tokenizer.load(directory / "tokenizer.json"))


def use_bundle(found: Bundle) -> None:
    """Weights that fit, and the tokenizer and the settings that belong to them."""
    check_bundle(found.model, found.tensors)
    assert {tensor.dtype for tensor in found.tensors.values()} == {np.dtype(np.float32)}
    use_tokenizer(found.tokenizer)
    resolve_sample_config(found, {})


def read_bundle(directory: Path) -> None:
    use_bundle(load_bundle(directory))


# What a bundle's manifest vouches for: a byte more or less must be noticed.


def tamper(draw: random.Random, files: Files) -> Files:
    """Damage to any file of a bundle, or to all that its manifest says; it differs from the whole one."""
    name = draw.choice(sorted(files))
    damage = damaged_text_of if name.endswith(".json") else damaged_bytes
    while (changed := damage(draw, files[name])) == files[name]:
        pass
    if name == "manifest.json" and draw.random() < 0.5:  # and a file that it may no longer list
        other = draw.choice(sorted(files.keys() - {name}))
        files[other] = files[other][:-1] + b" "
    return files | {name: changed}


def read_sealed(directory: Path) -> None:
    found, whole = load_bundle(directory), bundle_files()
    for path in directory.iterdir():
        assert path.name == "manifest.json" or path.read_bytes() == whole[path.name], (
            f"{path.name} was changed"
        )
    use_bundle(found)


# A stranger's directory: no manifest, or one that matches, so that the parsers see the damage.


def damaged_weights(draw: random.Random, data: bytes) -> bytes:
    """A safetensors file with a damaged header of the right length, or with damaged bytes."""
    if draw.random() < 0.3:
        return damaged_bytes(draw, data)
    (length,) = struct.unpack("<Q", data[:8])
    header = damaged_text_of(draw, data[8 : 8 + length])
    rest = data[8 + length :] if draw.random() < 0.8 else damaged_bytes(draw, data[8 + length :])
    return struct.pack("<Q", len(header)) + header + rest


def foist(draw: random.Random, files: Files) -> Files:
    """Damage to what is read of a bundle; the manifest matches it, or is damaged too, or is not there."""
    manifest = json.loads(files.pop("manifest.json"))
    name = draw.choice(("config.json", "model.safetensors", "tokenizer.json", "manifest.json"))
    if name != "manifest.json":
        files[name] = (damaged_weights if name.endswith(".safetensors") else damaged_text_of)(
            draw, files[name]
        )
        if draw.random() < 0.5:
            return files
    manifest["sha256"] = {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items()
    }
    if name == "manifest.json":
        damaged = damaged_json(
            draw, {key: value for key, value in manifest.items() if key != "sha256"}
        )
        manifest = (
            damaged | {"sha256": manifest["sha256"]} if isinstance(damaged, dict) else damaged
        )
    return files | {"manifest.json": written(draw, manifest)}


# The configuration: TOML, whose values are mostly written as in JSON.


def damage_toml(draw: random.Random, files: Files) -> Files:
    text = files["config.toml"]
    if draw.random() < 0.4:
        return {"config.toml": damaged_bytes(draw, text)}
    tree = damaged_json(draw, config_to_tree(load_config()))
    lines: list[str] = []
    for section, values in tree.items() if isinstance(tree, dict) else [("x", tree)]:
        if isinstance(values, dict):
            lines += [
                f"[{section}]",
                *(f"{name} = {written(draw, value).decode()}" for name, value in values.items()),
            ]
        else:
            lines.insert(0, f"{section} = {written(draw, values).decode()}")
    return {"config.toml": "\n".join(lines).encode("utf-8", "surrogatepass")}


def read_config(directory: Path) -> None:
    found = load_config(directory / "config.toml")
    assert not any("\0" in value for value in (found.data.path, found.data.tokenizer))
    (directory / "again.toml").write_text(config_to_toml(found), encoding="utf-8")
    assert load_config(directory / "again.toml") == found


# The numbers of a run.


def metrics_files() -> Files:
    records: list[dict[str, Any]] = [
        {"step": step, "train/loss": 6.5 - step / 10, "lr": 1e-3} for step in range(1, 7)
    ]
    records.insert(2, {"step": 2, "samples": ["the dragon\n", "sees \u2028 a wolf"]})
    records.insert(5, {"step": 4, "held_out/nats_per_token": 5.0, "held_out/bits_per_byte": 3.0})
    return {
        "metrics.jsonl": "".join(
            json.dumps(record, ensure_ascii=False) + "\n" for record in records
        ).encode()
    }


def damage_metrics(draw: random.Random, files: Files) -> Files:
    lines = files["metrics.jsonl"].splitlines(keepends=True)
    if draw.random() < 0.3:
        return {"metrics.jsonl": damaged_bytes(draw, files["metrics.jsonl"])}
    place = draw.randrange(len(lines))
    lines[place] = damaged_text_of(draw, lines[place]) + b"\n"
    return {"metrics.jsonl": b"".join(lines)}


def read_metrics(directory: Path) -> None:
    """Read as for a picture, then as for a run that is resumed."""
    for record in run_directory.read_metrics(directory):
        for key in ("train/loss", "held_out/nats_per_token"):
            assert isinstance(record.get(key), float | int | None), record
            float(record.get(key) or 0), float(record["step"])
    truncate_logs(directory, 3)
    assert all(record["step"] <= 3 for record in run_directory.read_metrics(directory))


def source_files() -> Files:
    record = {"sha256": "0" * 64, "excess": 0.007, "bits": [100.5, 200.25, 300.125]}
    return {"text.source.json": json.dumps(record).encode()}


def read_source(directory: Path) -> None:
    found = load_source(directory / "text.txt", "0" * 64)
    if found is not None:
        assert np.isfinite([found.excess, *found.bits]).all()


# Shards, and their index; a reader of them also reads the tokenizer, which has been damaged above.


@functools.cache
def shard_files() -> Files:
    """Three shards of the smallest size."""
    tokens = np.arange(20, dtype=np.uint16)
    tokens[[0, 7, 12, 17, 19]] = tokenizer().end_of_text
    with tempfile.TemporaryDirectory() as name:
        tokenizer().save(Path(name) / "tokenizer.json")
        done = [
            shards.write_shard(Path(name), number, [tokens[start : start + 8]], tokenizer().sha256)
            for number, start in enumerate((0, 8, 16))
        ]
        facts = (
            tokenizer().sha256,
            MODEL.vocab_size,
            8,
            "text",
            (shards.InputFile("text.txt", 40, "0" * 64),),
        )
        place = shards.Position(0, 1, 5)
        shards.write_index(
            Path(name),
            shards.ShardIndex(1, True, *facts, 20, 2, 36, {"empty": 1}, place, tuple(done)),
        )
        return {path.name: path.read_bytes() for path in sorted(Path(name).iterdir())}


def damage_shards(draw: random.Random, files: Files) -> Files:
    name = draw.choice(sorted(files.keys() - {"tokenizer.json"}))
    return files | {
        name: (damaged_text_of if name.endswith(".json") else damaged_bytes)(draw, files[name])
    }


def read_shards(directory: Path) -> None:
    """Read all as for training and evaluation."""
    split = split_shards(directory, 0.2)
    assert shard_dataset.read_batch(split, 0, 0, 20, 1).max() < tokenizer().vocab_size
    assert shard_dataset.count_token_bytes(shard_dataset.read_held_out(split), tokenizer()) > 0


def read_ids(directory: Path) -> None:
    tokenizer().decode_bytes(token_ids((directory / "ids.txt").read_bytes()))


TARGETS = {
    "tokenizer": Target(
        lambda: {"tokenizer.json": bundle_files()["tokenizer.json"]},
        some(("tokenizer.json",)),
        read_tokenizer,
    ),
    "bundle": Target(lambda: dict(bundle_files()), tamper, read_sealed),
    "foreign bundle": Target(lambda: dict(bundle_files()), foist, read_bundle),
    "config": Target(
        lambda: {"config.toml": config_to_toml(Config()).encode()}, damage_toml, read_config
    ),
    "metrics": Target(metrics_files, damage_metrics, read_metrics),
    "source": Target(source_files, some(("text.source.json",)), read_source),
    "shards": Target(lambda: dict(shard_files()), damage_shards, read_shards, share=0.3),
    "token ids": Target(
        lambda: {"ids.txt": b"97 98 256 257 258 259\n1 2 3\n"},
        some(("ids.txt",), damaged_bytes),
        read_ids,
    ),
}
