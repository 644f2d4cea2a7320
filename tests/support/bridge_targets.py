"""As `tests.support.targets`, the readers of the bridge: TorchScript files, and GPT-2 directories from elsewhere."""

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
from safetensors.torch import save as serialize

from bridge import torchscript
from bridge.__main__ import describe
from bridge.export_metadata import METADATA_FILES, read_metadata
from bridge.importers.hf_gpt2 import load_file, read_gpt2
from tests.support.fuzzing import Files, Target
from tests.support.mutating import damaged_bytes, damaged_text_of
from tests.support.targets import MODEL, bundle_files, damaged_weights, use_bundle
from valyrian_jax.bundle.names import parameter_shapes

# The papers of a TorchScript file. A small archive with the same papers stands for it: torch is not asked.


def archive(members: list[tuple[str, bytes]]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file, warnings.catch_warnings(action="ignore"):
        for name, data in members:
            file.writestr(zipfile.ZipInfo(name), data)
    return content.getvalue()


def paper_files() -> Files:
    example = {"settings": [0.8, 0, 0.95, 1], "tokens": [259, 97, 98], "text": "ab"}
    certificate = {
        "format_version": 1,
        "torch": "2.13",
        "parity": {"passed": True},
        "int8": {"kl_mean": 1e-4, "kl_max": 1e-3, "top1": 0.99},
        "examples": [example],
    }
    names = ("config.json", "tokenizer.json", "manifest.json")
    members = [(f"m/extra/{name}", bundle_files()[name]) for name in names]
    members += [
        ("m/extra/certificate.json", json.dumps(certificate).encode()),
        ("m/version", b"3\n"),
    ]
    return {"m.pt": archive(members)}


def damage_papers(draw: random.Random, files: Files) -> Files:
    if draw.random() < 0.4:
        return {"m.pt": damaged_bytes(draw, files["m.pt"])}
    with zipfile.ZipFile(io.BytesIO(files["m.pt"])) as whole:
        members = [[name, whole.read(name)] for name in whole.namelist()]
    member = draw.choice(members[:4] + members[3:4] * 3)
    member[1] = damaged_text_of(draw, member[1])
    return {"m.pt": archive([(name, data) for name, data in damaged_json_list(draw, members)])}


def damaged_json_list(draw: random.Random, members: list[Any]) -> list[Any]:
    """Now and then a member twice, or one less, or under another name."""
    kind, place = draw.randrange(20), draw.randrange(len(members))
    if kind == 0:
        members.append(members[place])
    elif kind == 1:
        del members[place]
    elif kind == 2:
        members[place][0] = draw.choice(
            ("../x", "/x", "m/../x", "m//x", "x", "m/extra/config.json", "m\\x")
        )
    return members


def read_papers(directory: Path) -> None:
    found = read_metadata(directory / "m.pt")
    assert found.keys() == {*METADATA_FILES}
    assert "\n" not in describe(found["certificate.json"])


# GPT-2 directories from elsewhere.


def foreign_files() -> Files:
    files = bundle_files()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model.safetensors"
        path.write_bytes(files["model.safetensors"])
        tensors = load_file(path)
    names, shards = sorted(tensors), {}
    places = {tensor: f"{i % 2}.safetensors" for i, tensor in enumerate(names)}
    for shard in ("0.safetensors", "1.safetensors"):
        shards[shard] = serialize({name: tensors[name] for name in names if places[name] == shard})
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    model = json.loads(files["tokenizer.json"])["model"]
    return {
        "config.json": files["config.json"],
        "model.safetensors.index.json": json.dumps(index).encode(),
        **shards,
        "vocab.json": json.dumps(model["vocab"]).encode(),
        "merges.txt": "\n".join(
            ["#version: 0.2", *(" ".join(pair) for pair in model["merges"]), ""]
        ).encode(),
    }


def damage_foreign(draw: random.Random, files: Files) -> Files:
    name = draw.choice(sorted(files))
    damage = damaged_weights if name.endswith(".safetensors") else damaged_text_of
    if name == "merges.txt":
        damage = damaged_bytes
    return files | {name: damage(draw, files[name])}


def read_foreign(directory: Path) -> None:
    use_bundle(read_gpt2(directory))


def pickled_files() -> Files:
    files, content = bundle_files(), io.BytesIO()
    tensors = {name: torch.zeros(shape) for name, shape in parameter_shapes(MODEL).items()}
    torch.save(tensors, content)
    return {name: files[name] for name in ("config.json", "tokenizer.json")} | {
        "pytorch_model.bin": content.getvalue()
    }


def damage_pickled(draw: random.Random, files: Files) -> Files:
    """Damage to the bytes of the archive, or to its list of tensors with checksums that are right."""
    data = files["pytorch_model.bin"]
    if draw.random() < 0.3:
        return files | {"pytorch_model.bin": damaged_bytes(draw, data)}
    with zipfile.ZipFile(io.BytesIO(data)) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    members[name] = damaged_bytes(draw, members[name])
    return files | {"pytorch_model.bin": archive([*members.items()])}


@functools.cache
def scripted_files() -> Files:
    with tempfile.TemporaryDirectory() as name:
        for file, content in bundle_files().items():
            (Path(name) / file).write_bytes(content)
        torchscript.write(Path(name), Path(name) / "m.pt")
        return {"m.pt": (Path(name) / "m.pt").read_bytes()}


def read_scripted(directory: Path) -> None:
    torchscript.check(directory / "m.pt")


TARGETS = {
    "papers": Target(paper_files, damage_papers, read_papers),
    "gpt2": Target(foreign_files, damage_foreign, read_foreign),
    "pickled": Target(pickled_files, damage_pickled, read_foreign, share=0.03),
    "torchscript": Target(scripted_files, damage_papers, read_scripted, share=0.002),
}
