"""Fuzzing targets of the bridge: TorchScript files, and GPT-2 directories of other tools."""

import copy
import functools
import io
import json
import random
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from bridge import torchscript
from bridge.export_metadata import METADATA_FILES, describe_certificate, read_metadata
from bridge.gguf import export as gguf_export
from bridge.importers.gpt2 import read_gpt2
from bridge.web.heat_map import HEADS_NAME, read_heat_map
from tests.support.fuzzing import Files, Target
from tests.support.gguf_files import GgufParts, encode_string, pack, unpack
from tests.support.heads import make_heads_file
from tests.support.mutating import damage_bytes, damage_json_text
from tests.support.targets import (
    MODEL,
    damage_weights,
    exercise_bundle,
    make_bundle_files,
    make_tokenizer,
)
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.names import parameter_shapes

# The metadata of a TorchScript file, in a small archive that PyTorch does not have to open.


def make_archive(members: list[tuple[str, bytes]]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file, warnings.catch_warnings(action="ignore"):
        for name, data in members:
            file.writestr(zipfile.ZipInfo(name), data)
    return content.getvalue()


def make_metadata_files() -> Files:
    example = {"settings": [0.8, 0, 0.95, 1], "tokens": [259, 97, 98], "text": "ab"}
    certificate = {
        "format_version": 1,
        "torch": "2.13",
        "parity": {"passed": True},
        "int8": {"kl_mean": 1e-4, "kl_max": 1e-3, "top1": 0.99},
        "examples": [example],
    }
    names = ("config.json", "tokenizer.json", "manifest.json")
    members = [(f"m/extra/{name}", make_bundle_files()[name]) for name in names]
    members += [
        ("m/extra/certificate.json", json.dumps(certificate).encode()),
        ("m/version", b"3\n"),
    ]
    return {"m.pt": make_archive(members)}


def damage_metadata(draw: random.Random, files: Files) -> Files:
    """Damage the bytes of the archive, or one of its JSON files and sometimes its list of members.

    The certificate is damaged more often than the other files.
    """
    if draw.random() < 0.4:
        return {"m.pt": damage_bytes(draw, files["m.pt"])}
    with zipfile.ZipFile(io.BytesIO(files["m.pt"])) as archive:
        members: list[list[Any]] = [[name, archive.read(name)] for name in archive.namelist()]
    member = draw.choice(members[:4] + members[3:4] * 3)
    member[1] = damage_json_text(draw, member[1])
    return {"m.pt": make_archive([(name, data) for name, data in damage_members(draw, members)])}


def damage_members(draw: random.Random, members: list[Any]) -> list[Any]:
    """Three times in twenty, repeat, remove or rename a member; return the members."""
    kind, index = draw.randrange(20), draw.randrange(len(members))
    if kind == 0:
        members.append(members[index])
    elif kind == 1:
        del members[index]
    elif kind == 2:
        members[index][0] = draw.choice(
            ("../x", "/x", "m/../x", "m//x", "x", "m/extra/config.json", "m\\x")
        )
    return members


def read_export_metadata(directory: Path) -> None:
    metadata = read_metadata(directory / "m.pt")
    assert metadata.keys() == {*METADATA_FILES}
    assert "\n" not in describe_certificate(metadata["certificate.json"])


# GPT-2 directories of other tools.


def make_gpt2_files() -> Files:
    files = make_bundle_files()
    tensors = load(files["model.safetensors"])
    names, shards = sorted(tensors), {}
    weight_map = {tensor: f"{i % 2}.safetensors" for i, tensor in enumerate(names)}
    for shard in ("0.safetensors", "1.safetensors"):
        shards[shard] = save({name: tensors[name] for name in names if weight_map[name] == shard})
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    model = json.loads(files["tokenizer.json"])["model"]
    merges = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"]), ""]
    return {
        "config.json": files["config.json"],
        "model.safetensors.index.json": json.dumps(index).encode(),
        **shards,
        "vocab.json": json.dumps(model["vocab"]).encode(),
        "merges.txt": "\n".join(merges).encode(),
    }


def damage_gpt2(draw: random.Random, files: Files) -> Files:
    name = draw.choice(sorted(files))
    damage = damage_weights if name.endswith(".safetensors") else damage_json_text
    if name == "merges.txt":
        damage = damage_bytes
    return files | {name: damage(draw, files[name])}


def read_gpt2_directory(directory: Path) -> None:
    exercise_bundle(read_gpt2(directory).bundle)


def make_pickled_files() -> Files:
    files, content = make_bundle_files(), io.BytesIO()
    tensors = {name: torch.zeros(shape) for name, shape in parameter_shapes(MODEL).items()}
    torch.save(tensors, content)
    return {name: files[name] for name in ("config.json", "tokenizer.json")} | {
        "pytorch_model.bin": content.getvalue()
    }


def make_nanogpt_files() -> Files:
    content = io.BytesIO()
    tensors = {
        f"_orig_mod.{name}": torch.zeros(shape[::-1] if ".h." in name else shape)
        for name, shape in parameter_shapes(MODEL).items()
        if not name.endswith(".bias")
    }
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 4, "block_size": 4, "vocab_size": 260}
    torch.save({"model": tensors, "model_args": sizes | {"bias": False}}, content)
    return {"tokenizer.json": make_bundle_files()["tokenizer.json"], "ckpt.pt": content.getvalue()}


def damage_pickled(draw: random.Random, files: Files) -> Files:
    """Damage the bytes of the archive or, with valid checksums, its pickled list of tensors."""
    file = next(name for name in files if name.endswith((".bin", ".pt")))
    data = files[file]
    if draw.random() < 0.3:
        return files | {file: damage_bytes(draw, data)}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    members[name] = damage_bytes(draw, members[name])
    return files | {file: make_archive([*members.items()])}


@functools.cache
def make_torchscript_files() -> Files:
    with tempfile.TemporaryDirectory() as name:
        for file, content in make_bundle_files().items():
            (Path(name) / file).write_bytes(content)
        torchscript.write(Path(name), Path(name) / "m.pt")
        return {"m.pt": (Path(name) / "m.pt").read_bytes()}


def read_torchscript(directory: Path) -> None:
    torchscript.check(directory / "m.pt")


# GGUF files.

_GGUF_NUMBERS = (0, 1, 2, 3, 5, 31, 32, 64, 255, 2**16, 2**31, 2**32 - 1, 2**32, 2**62, 2**64 - 1)


@functools.cache
def make_gguf_files() -> Files:
    with tempfile.TemporaryDirectory() as name:
        for file, content in make_bundle_files().items():
            (Path(name) / file).write_bytes(content)
        gguf_export.write(Path(name), Path(name) / "model.gguf")
        return {"model.gguf": (Path(name) / "model.gguf").read_bytes()}


@functools.cache
def unpack_gguf() -> GgufParts:
    return unpack(make_gguf_files()["model.gguf"])


def damage_gguf(draw: random.Random, files: Files) -> Files:
    """Damage the bytes of a file, most often of its header, or parts that then fit together."""
    content, parts = files["model.gguf"], copy.deepcopy(unpack_gguf())
    size = len(content) - len(parts.data)
    match draw.randrange(6):
        case 0:
            return {"model.gguf": damage_bytes(draw, content)}
        case 1:
            return {"model.gguf": damage_bytes(draw, content[:size]) + content[size:]}
        case 2:  # a number in the header
            position, width = draw.randrange(size), draw.choice((4, 8))
            number = draw.choice(_GGUF_NUMBERS) % 2 ** (8 * width)
            damaged = content[:position] + number.to_bytes(width, "little")
            return {"model.gguf": damaged + content[position + width :]}
        case 3:  # an entry
            key = draw.choice([*parts.entries])
            code, value = parts.entries.pop(key)
            if draw.random() < 0.8:
                code = draw.choice((code, code, code, draw.randrange(14)))
                parts.entries[draw.choice((key, key, key + "x"))] = code, damage_bytes(draw, value)
        case 4:  # a text of ours
            key = draw.choice(("config", "certificate"))
            text = parts.entries[f"valyrian.{key}"][1][8:]
            parts.entries[f"valyrian.{key}"] = 8, encode_string(damage_json_text(draw, text))
        case _:  # a tensor
            index = draw.randrange(len(parts.tensors))
            name, dimensions, code, offset = parts.tensors.pop(index)
            dimensions = [draw.choice((n, n, draw.choice(_GGUF_NUMBERS))) for n in dimensions]
            code = draw.choice((code, code, draw.randrange(35)))
            offset = draw.choice((offset, offset, offset + 32, draw.choice(_GGUF_NUMBERS)))
            if draw.random() < 0.9:
                parts.tensors.insert(index, (name, dimensions, code, offset))
    return {"model.gguf": pack(parts)}


def read_gguf_file(directory: Path) -> None:
    exercise_bundle(read_gpt2(directory / "model.gguf").bundle)


def check_gguf_file(directory: Path) -> None:
    assert "\n" not in gguf_export.describe(gguf_export.check(directory / "model.gguf"))


# What each head does: lines of JSON, most of which are damaged one at a time.

_BUNDLE = Bundle(MODEL, {}, make_tokenizer())


def make_heads_files() -> Files:
    return {HEADS_NAME: make_heads_file(_BUNDLE)}


def damage_heads(draw: random.Random, files: Files) -> Files:
    lines = files[HEADS_NAME].splitlines()
    index = draw.randrange(len(lines))
    lines[index] = damage_json_text(draw, lines[index])
    return {HEADS_NAME: b"\n".join(lines)}


def read_heads(directory: Path) -> None:
    heat_map = read_heat_map([directory], _BUNDLE)
    json.dumps(heat_map, allow_nan=False).encode()


TARGETS = {
    "heads": Target(make_heads_files, damage_heads, read_heads),
    "gguf": Target(make_gguf_files, damage_gguf, read_gguf_file, share=0.3),
    "gguf check": Target(make_gguf_files, damage_gguf, check_gguf_file, share=0.05),
    "metadata": Target(make_metadata_files, damage_metadata, read_export_metadata),
    "gpt2": Target(make_gpt2_files, damage_gpt2, read_gpt2_directory),
    "pickled": Target(make_pickled_files, damage_pickled, read_gpt2_directory, share=0.03),
    "nanogpt": Target(make_nanogpt_files, damage_pickled, read_gpt2_directory, share=0.03),
    "torchscript": Target(make_torchscript_files, damage_metadata, read_torchscript, share=0.002),
}
