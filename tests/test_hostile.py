"""Files that somebody made to do harm: refused in one line; soon, and in little memory."""

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
from bridge.importers.hf_gpt2 import read_gpt2, read_tokenizer
from tests.support import bridge_targets, fuzzing, targets
from tests.support.commands import call
from valyrian_jax.bundle.bundle import BUNDLE_FILES, load_bundle
from valyrian_jax.bundle.names import parameter_shapes
from valyrian_jax.config import load_config
from valyrian_jax.data.corpus_entropy import CorpusSource, entropy_floor, load_source
from valyrian_jax.errors import UserError
from valyrian_jax.plots.curves import read_curves
from valyrian_jax.run_directory import read_metrics
from valyrian_jax.tokenizer import Tokenizer


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A bundle, a vocabulary and a run in one directory."""
    for name, content in (targets.bundle_files() | targets.metrics_files()).items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def refused(match: str, read: Callable[..., Any], *arguments: Any) -> None:
    with fuzzing.little_memory(), fuzzing.soon(), pytest.raises(UserError, match=match) as caught:
        read(*arguments)
    assert len(str(caught.value)) < 20_000


def change_manifest(directory: Path, **changes: Any) -> None:
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


HEADERS: dict[str, dict[str, Any]] = {
    "10^12 elements": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]},
    "10^12 elements in 4 bytes": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4]},
    "nothing times 2^124": {"dtype": "F32", "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]},
    "100 dimensions": {"dtype": "F32", "shape": [1] * 100, "data_offsets": [0, 4]},
    "complex": {"dtype": "C64", "shape": [], "data_offsets": [0, 8]},
    "4 bits": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]},
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("read", [load_bundle, read_gpt2], ids=["bundle", "gpt2"])
def test_weights_that_claim_what_they_have_not_are_refused(
    name: str, read: Any, whole: Path
) -> None:
    (whole / "manifest.json").unlink()
    header = json.dumps({"wte.weight": HEADERS[name]}).encode()
    size = min(HEADERS[name]["data_offsets"][1], 8)
    (whole / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    refused("model.safetensors|weights do not fit the model", read, whole)
    (whole / "model.safetensors").write_bytes(struct.pack("<Q", 2**60) + header)
    refused("damaged", read, whole)


def test_numbers_too_large_for_float32_are_refused_without_a_warning(whole: Path) -> None:
    (whole / "manifest.json").unlink()
    tensors = {name: torch.full(shape, 1e300, dtype=torch.float64) for name, shape in shapes()}
    (whole / "model.safetensors").write_bytes(serialize(tensors))
    refused("values that are not finite", load_bundle, whole)
    refused("values that are not finite", read_gpt2, whole)


def shapes() -> Any:
    return parameter_shapes(targets.MODEL).items()


def test_one_number_that_stands_for_a_trillion_is_refused(whole: Path) -> None:
    (whole / "model.safetensors").unlink()
    settings = json.loads((whole / "config.json").read_text())
    (whole / "config.json").write_text(
        json.dumps(settings | {"vocab_size": 10**6, "n_embd": 10**6})
    )
    torch.save({"wte.weight": torch.zeros(1).expand(10**6, 10**6)}, whole / "pytorch_model.bin")
    refused("more than the file", read_gpt2, whole)


def test_tensors_without_names_are_refused(whole: Path) -> None:
    (whole / "model.safetensors").unlink()
    torch.save({1: torch.zeros(1)}, whole / "pytorch_model.bin")
    refused("other than named tensors", read_gpt2, whole)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/b", "..", "", "x" * 300, "x\0", "\ud800"]
)
def test_names_that_lead_out_are_refused(name: str, whole: Path) -> None:
    hashes = json.loads((whole / "manifest.json").read_text())["sha256"]
    change_manifest(whole, sha256={name: "0" * 64} | hashes)
    refused("outside the bundle|is missing", load_bundle, whole)
    (whole / "model.safetensors").unlink()
    index = {"weight_map": {"wte.weight": name}}
    (whole / "model.safetensors.index.json").write_text(json.dumps(index))
    refused("to files beside it|is missing|was not read", read_gpt2, whole)


def test_a_manifest_vouches_for_every_file(whole: Path) -> None:
    hashes = json.loads((whole / "manifest.json").read_text())["sha256"]
    for name in BUNDLE_FILES:
        change_manifest(
            whole, sha256={other: digest for other, digest in hashes.items() if other != name}
        )
        refused(f"does not list {name}", load_bundle, whole)
    (whole / "manifest.json").write_text("{}")
    refused("manifest.json is damaged", load_bundle, whole)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_link_to_an_endless_file_is_refused(name: str, whole: Path) -> None:
    (whole / name).unlink()
    (whole / name).symlink_to("/dev/zero")
    refused(f"{name} is missing", load_bundle, whole)
    (whole / "manifest.json").unlink()
    reason = (
        "model.safetensors is damaged" if name.startswith("model") else "more than 67,108,864 bytes"
    )
    refused(reason, load_bundle, whole)
    refused("more than 32,768 bytes", load_config, whole / name)


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
def test_values_that_parsers_fear_are_refused(name: str, value: str, whole: Path) -> None:
    read, content = JSON_FILES[name]
    (whole / "merges.txt").write_text("")
    if name != "manifest.json":
        (whole / "manifest.json").unlink()
    if name in ("vocab.json", "model.safetensors.index.json"):
        (whole / "tokenizer.json").unlink()
        (whole / "model.safetensors").unlink()
    (whole / name).write_bytes(content.replace(b"X", HOSTILE_VALUES[value]))
    refused(".", read, whole)


TOML = {
    "a number of 20,000 hexadecimal digits": "x = 0x" + "f" * 20_000,
    "the same where it belongs": "[train]\nsteps = 0x" + "f" * 20_000,
    "a key of 3,000 parts": "[train]\n" + "a" + ".a" * 3000 + " = 1",
    "a key of 50,000 parts": "[train]\n" + "a" + ".a" * 50_000 + " = 1",
    "a NUL in a path": '[data]\npath = "a\\u0000b"',
    "a NUL in another": '[data]\ntokenizer = "a\\u0000b"',
}


@pytest.mark.parametrize("name", TOML)
def test_configurations_that_parsers_fear_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(TOML[name])
    refused("c.toml", load_config, tmp_path / "c.toml")


def test_many_special_tokens_are_read_soon(whole: Path) -> None:
    content = json.loads((whole / "tokenizer.json").read_text())
    count = len(content["model"]["vocab"])
    content["added_tokens"] += [{"id": count + i, "content": f"<{i}>"} for i in range(50_000)]
    (whole / "tokenizer.json").write_text(json.dumps(content))
    with fuzzing.soon():
        targets.use_tokenizer(Tokenizer.load(whole / "tokenizer.json"))


def test_samples_with_any_character_are_read_back(whole: Path) -> None:
    assert any(
        "\u2028" in text for record in read_metrics(whole) for text in record.get("samples", [])
    )


def test_files_with_escape_sequences_cannot_write_to_the_terminal(
    whole: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    change_manifest(whole, sha256={"\x1b[31m\r\ud800": ""})
    status, _, err = call(bridge_main.main, capsys, monkeypatch, "generate", whole)
    assert (status, "\\x1b[31m" in err, err[:-1].isprintable()) == (2, True, True)
    change_manifest(whole, sha256={"x" * 100_000: ""})
    assert len(call(bridge_main.main, capsys, monkeypatch, "generate", whole)[2]) < 3000


MEMBERS: dict[str, list[tuple[str, bytes]]] = {
    "there twice": [("m/extra/certificate.json", b"{}")],
    "lies outside": [("m/extra/../../x", b"")],
    "or lies outside": [("/etc/passwd", b"")],
    "unfold to": [("m/data/0", bytes(200 << 20))],
}


@pytest.mark.parametrize("reason", MEMBERS)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_mean_harm_are_refused(reason: str, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(bridge_targets.paper_files()["m.pt"])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, content in MEMBERS[reason]:
            file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    refused(reason, read_metadata, path)
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes(targets.bundle_files()[name])
    path.rename(tmp_path / "pytorch_model.bin")
    refused(reason, read_gpt2, tmp_path)


def test_papers_of_a_newer_version_are_refused_by_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as file:
        for name in METADATA_FILES:
            file.writestr(f"m/extra/{name}", '{"format_version": 99}')
    refused("has format 99; this version reads up to 1: upgrade", read_metadata, tmp_path / "m.pt")


def test_numbers_without_a_loss_are_not_drawn(whole: Path) -> None:
    (whole / "metrics.jsonl").write_text('{"step": 1}\n')
    refused("no losses to draw", read_curves, whole)


def test_a_source_that_tells_of_too_few_documents_is_refused() -> None:
    refused("tells of 1 documents", entropy_floor, CorpusSource("", [1.0], 0.0), ["a", "b"])
