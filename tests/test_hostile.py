"""Malicious files are refused in one line, quickly and in little memory."""

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as serialize

from bridge import __main__ as bridge_main
from bridge.export_metadata import METADATA_FILES, read_metadata
from bridge.importers.gpt2 import read_gpt2
from bridge.importers.tokenizer_files import read_tokenizer
from tests.support.bridge_targets import make_metadata_files
from tests.support.commands import call
from tests.support.fuzzing import limit_memory, limit_time
from tests.support.targets import (
    MODEL,
    exercise_tokenizer,
    make_bundle_files,
    make_metrics_files,
)
from valyrian_jax.bundle.bundle import BUNDLE_FILES, load_bundle
from valyrian_jax.bundle.names import parameter_shapes
from valyrian_jax.config import load_config
from valyrian_jax.data.corpus_entropy import CorpusSource, entropy_floor, load_source
from valyrian_jax.errors import UserError
from valyrian_jax.plots.curves import read_curves
from valyrian_jax.run_directory import read_metrics
from valyrian_jax.tokenizer import Tokenizer


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with the files of a bundle and the log of a run."""
    for name, content in (make_bundle_files() | make_metrics_files()).items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def assert_refused(match: str, read: Callable[..., Any], *arguments: Any) -> None:
    with limit_memory(), limit_time(), pytest.raises(UserError, match=match) as error_info:
        read(*arguments)
    assert len(str(error_info.value)) < 20_000


def edit_manifest(directory: Path, **changes: Any) -> None:
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


HEADERS: dict[str, dict[str, Any]] = {
    "10^12 elements": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]},
    "10^12 elements in 4 bytes": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4]},
    "0 times 2^124 elements": {"dtype": "F32", "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]},
    "100 dimensions": {"dtype": "F32", "shape": [1] * 100, "data_offsets": [0, 4]},
    "complex": {"dtype": "C64", "shape": [], "data_offsets": [0, 8]},
    "4 bits": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]},
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("read", [load_bundle, read_gpt2], ids=["bundle", "gpt2"])
def test_weights_with_false_sizes_are_refused(name: str, read: Any, directory: Path) -> None:
    (directory / "manifest.json").unlink()
    header = json.dumps({"wte.weight": HEADERS[name]}).encode()
    size = min(HEADERS[name]["data_offsets"][1], 8)
    (directory / "model.safetensors").write_bytes(
        struct.pack("<Q", len(header)) + header + bytes(size)
    )
    assert_refused("model.safetensors|weights do not fit the model", read, directory)
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", 2**60) + header)
    assert_refused("damaged", read, directory)


def test_numbers_too_large_for_float32_are_refused_without_a_warning(directory: Path) -> None:
    (directory / "manifest.json").unlink()
    shapes = parameter_shapes(MODEL)
    tensors = {
        name: torch.full(shape, 1e300, dtype=torch.float64) for name, shape in shapes.items()
    }
    (directory / "model.safetensors").write_bytes(serialize(tensors))
    assert_refused("values that are not finite", load_bundle, directory)
    assert_refused("values that are not finite", read_gpt2, directory)


def test_a_tensor_that_expands_one_number_to_a_trillion_is_refused(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(
        json.dumps(config | {"vocab_size": 10**6, "n_embd": 10**6})
    )
    torch.save({"wte.weight": torch.zeros(1).expand(10**6, 10**6)}, directory / "pytorch_model.bin")
    assert_refused("more than the file", read_gpt2, directory)


def test_tensors_without_names_are_refused(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    torch.save({1: torch.zeros(1)}, directory / "pytorch_model.bin")
    assert_refused("other than named tensors", read_gpt2, directory)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/b", "..", "", "x" * 300, "x\0", "\ud800"]
)
def test_file_names_outside_the_directory_are_refused(name: str, directory: Path) -> None:
    hashes = json.loads((directory / "manifest.json").read_text())["sha256"]
    edit_manifest(directory, sha256={name: "0" * 64} | hashes)
    assert_refused("outside the bundle|is missing", load_bundle, directory)
    (directory / "model.safetensors").unlink()
    index = {"weight_map": {"wte.weight": name}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_refused("to files beside it|is missing|was not read", read_gpt2, directory)


def test_a_manifest_that_does_not_list_a_file_is_refused(directory: Path) -> None:
    hashes = json.loads((directory / "manifest.json").read_text())["sha256"]
    for name in BUNDLE_FILES:
        edit_manifest(
            directory, sha256={other: digest for other, digest in hashes.items() if other != name}
        )
        assert_refused(f"does not list {name}", load_bundle, directory)
    (directory / "manifest.json").write_text("{}")
    assert_refused("manifest.json is damaged", load_bundle, directory)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_link_to_an_endless_file_is_refused(name: str, directory: Path) -> None:
    (directory / name).unlink()
    (directory / name).symlink_to("/dev/zero")
    assert_refused(f"{name} is missing", load_bundle, directory)
    (directory / "manifest.json").unlink()
    assert_refused("expected a regular file, found a character device", load_bundle, directory)
    assert_refused("more than 32,768 bytes", load_config, directory / name)


HOSTILE_VALUES = {
    "5,000 digits": b"9" * 5000,
    "100,000 brackets": b"[" * 100_000 + b"]" * 100_000,
    "100,000 objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "950 brackets": b"[" * 950 + b"]" * 950,
    "half a character": b'"\\ud800"',
    "a NUL": b'"\\u0000"',
}
JSON_FILES: dict[str, tuple[Callable[[Path], Any], bytes]] = {
    "tokenizer.json": (
        lambda d: Tokenizer.load(d / "tokenizer.json"),
        b'{"pre_tokenizer": X, "model": {"type": X}}',
    ),
    "config.json": (lambda d: load_bundle(d), b'{"model_type": X}'),
    "manifest.json": (lambda d: load_bundle(d), b'{"format_version": X}'),
    "metrics.jsonl": (lambda d: list(read_metrics(d)), b'{"step": 1, "a": X}\n{"step": X}\n{}\n'),
    "text.source.json": (
        lambda d: load_source(d / "text.txt", "0"),
        b'{"sha256": "0", "bits": [X], "excess": X}',
    ),
    "config.toml": (lambda d: load_config(d / "config.toml"), b"[train]\nsteps = X\n"),
    "model.safetensors.index.json": (lambda d: read_gpt2(d), b'{"weight_map": {"a": X}}'),
    "vocab.json": (lambda d: read_tokenizer(d), b'{"a": X}'),
}


@pytest.mark.parametrize("name", JSON_FILES)
@pytest.mark.parametrize("value", HOSTILE_VALUES)
def test_values_that_break_parsers_are_refused(name: str, value: str, directory: Path) -> None:
    read, content = JSON_FILES[name]
    (directory / "merges.txt").write_text("")
    if name != "manifest.json":
        (directory / "manifest.json").unlink()
    if name in ("vocab.json", "model.safetensors.index.json"):
        (directory / "tokenizer.json").unlink()
        (directory / "model.safetensors").unlink()
    (directory / name).write_bytes(content.replace(b"X", HOSTILE_VALUES[value]))
    assert_refused(".", read, directory)


HOSTILE_TOML = {
    "a number of 20,000 hexadecimal digits": "x = 0x" + "f" * 20_000,
    "the same as a setting": "[train]\nsteps = 0x" + "f" * 20_000,
    "a key of 3,000 parts": "[train]\n" + "a" + ".a" * 3000 + " = 1",
    "a key of 50,000 parts": "[train]\n" + "a" + ".a" * 50_000 + " = 1",
    "a NUL in a path": '[data]\npath = "a\\u0000b"',
    "a NUL in another path": '[data]\ntokenizer = "a\\u0000b"',
}


@pytest.mark.parametrize("name", HOSTILE_TOML)
def test_configurations_that_break_parsers_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(HOSTILE_TOML[name])
    assert_refused("c.toml", load_config, tmp_path / "c.toml")


def test_50_000_special_tokens_are_read_quickly(directory: Path) -> None:
    content = json.loads((directory / "tokenizer.json").read_text())
    count = len(content["model"]["vocab"])
    content["added_tokens"] += [{"id": count + i, "content": f"<{i}>"} for i in range(50_000)]
    (directory / "tokenizer.json").write_text(json.dumps(content))
    with limit_time():
        tokenizer = Tokenizer.load(directory / "tokenizer.json")
        exercise_tokenizer(tokenizer)
    assert tokenizer.vocab_size == count + 50_000


def test_samples_with_line_separators_are_read_back(directory: Path) -> None:
    samples = [text for record in read_metrics(directory) for text in record.get("samples", [])]
    assert any("\u2028" in sample for sample in samples)


def test_error_messages_escape_and_shorten_names_from_files(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_manifest(directory, sha256={"\x1b[31m\r\ud800": ""})
    status, _, error = call(bridge_main.main, capsys, monkeypatch, "generate", directory)
    assert (status, "\\x1b[31m" in error, error[:-1].isprintable()) == (2, True, True)
    edit_manifest(directory, sha256={"x" * 100_000: ""})
    assert len(call(bridge_main.main, capsys, monkeypatch, "generate", directory)[2]) < 3000


HOSTILE_MEMBERS: dict[str, list[tuple[str, bytes]]] = {
    "two members of the same name": [("m/extra/certificate.json", b"{}")],
    "lies outside": [("m/extra/../../x", b"")],
    "or one that lies outside": [("/etc/passwd", b"")],
    "unpack to": [("m/data/0", bytes(200 << 20))],
}


@pytest.mark.parametrize("reason", HOSTILE_MEMBERS)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_archives_are_refused(reason: str, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(make_metadata_files()["m.pt"])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, content in HOSTILE_MEMBERS[reason]:
            file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    assert_refused(reason, read_metadata, path)
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes(make_bundle_files()[name])
    path.rename(tmp_path / "pytorch_model.bin")
    assert_refused(reason, read_gpt2, tmp_path)


def test_metadata_of_a_newer_format_are_refused_with_its_number(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as file:
        for name in METADATA_FILES:
            file.writestr(f"m/extra/{name}", '{"format_version": 99}')
    assert_refused(
        "has format 99; this version reads up to 2: upgrade", read_metadata, tmp_path / "m.pt"
    )


def test_metrics_without_a_loss_are_not_plotted(directory: Path) -> None:
    (directory / "metrics.jsonl").write_text('{"step": 1}\n')
    assert_refused("no losses to draw", read_curves, directory)


def test_a_source_with_too_few_documents_is_refused() -> None:
    source = CorpusSource("", [1.0], 0.0)
    assert_refused("expected at least 2 documents, found 1", entropy_floor, source, ["a", "b"])
