"""A GGUF file has llama.cpp's names and a right vocabulary, and leads back to the same bundle."""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from bridge import __main__ as bridge_main
from bridge.generator import Generator
from bridge.gguf import export as gguf_export
from bridge.gguf.reader import read_header
from bridge.importers.gpt2 import read_gpt2
from tests.support.commands import call
from valyrian_jax.bundle.bundle import Bundle, load_bundle, save_bundle
from valyrian_jax.config import SampleConfig
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer

README = (Path(__file__).parents[2] / "bridge" / "README.md").read_text(encoding="utf-8")
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def write(make: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A function that writes a bundle, small or with other settings, as a GGUF file."""

    def write(quantize: str | None = None, manifest: Any = None, **changes: Any) -> Path:
        directory = tmp_path_factory.mktemp("gguf")
        save_bundle(replace(make(**changes), manifest=manifest or {}), directory / "bundle")
        gguf_export.write(directory / "bundle", directory / "model.gguf", quantize)
        return directory / "model.gguf"

    return write


@pytest.fixture(scope="module")
def plain(write: Make) -> Path:
    """The small bundle in float32."""
    return write()


def contents(path: Path) -> dict[str, Any]:
    return {key: field.contents() for key, field in gguf.GGUFReader(path).fields.items()}


def test_the_package_of_llama_cpp_reads_the_names_and_numbers(plain: Path, small: Bundle) -> None:
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(plain).tensors}
    block = ["attn_norm", "attn_qkv", "attn_output", "ffn_norm", "ffn_up", "ffn_down"]
    blocks = {
        f"blk.{i}.{part}.{kind}" for i in (0, 1) for part in block for kind in ("weight", "bias")
    }
    others = {"token_embd.weight", "position_embd.weight", "output.weight"}
    assert tensors.keys() == blocks | others | {"output_norm.weight", "output_norm.bias"}
    qkv = tensors["blk.1.attn_qkv.weight"]
    assert qkv.shape.tolist() == [24, 72]  # inputs first, as ggml counts
    assert np.array_equal(qkv.data, small.tensors["transformer.h.1.attn.c_attn.weight"].T)
    assert np.array_equal(tensors["output.weight"].data, small.tensors["lm_head.weight"])
    fields = contents(plain)
    assert {key: fields[f"gpt2.{key}"] for key in ("context_length", "block_count")} == {
        "context_length": 24,
        "block_count": 2,
    }
    assert fields["gpt2.attention.layer_norm_epsilon"] == np.float32(1e-3)
    assert fields["general.file_type"] == gguf.LlamaFileType.ALL_F32


def test_the_vocabulary_has_every_byte_and_one_control_token(plain: Path, small: Bundle) -> None:
    fields, end = contents(plain), small.tokenizer.end_of_text
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    assert (fields["tokenizer.ggml.model"], fields["tokenizer.ggml.pre"]) == ("gpt2", "gpt-2")
    assert tokens[end] == "<|endoftext|>"
    assert [i for i, kind in enumerate(types) if kind == gguf.TokenType.CONTROL] == [end]
    assert set(types) == {gguf.TokenType.CONTROL, gguf.TokenType.NORMAL}
    assert len({token for token in tokens if len(token) == 1}) == 256
    assert "Ġ" in tokens
    assert len(fields["tokenizer.ggml.merges"]) == len(small.tokenizer.merges)
    assert [fields[f"tokenizer.ggml.{name}_token_id"] for name in ("bos", "eos")] == [end, end]
    assert fields["tokenizer.ggml.add_bos_token"] is False


def test_the_file_has_licence_language_settings_and_certificate(write: Make) -> None:
    settings = {"temperature": 1e300, "top_k": 5, "stop": ["."], "seed": 2**32 - 1}
    manifest = {
        "config": {"sample": settings},
        "held_out": {"entropy_bits_per_byte": 0.5},
    }
    fields = contents(write(manifest=manifest))
    assert (fields["general.license"], fields["general.languages"]) == ("mit", ["art"])
    assert fields["general.sampling.temp"] == np.finfo(np.float32).max
    stored = {key.partition("sample.")[2]: fields[key] for key in fields if "sample." in key}
    expected = {key: value for key, value in vars(SampleConfig()).items() if value != ""}
    assert stored == expected | settings
    assert json.loads(fields["valyrian.config"])["n_embd"] == 24
    assert json.loads(fields["valyrian.manifest"])["config"]["sample"] == settings
    certificate = json.loads(fields["valyrian.certificate"])
    assert (certificate["parity"], len(certificate["examples"])) == (None, 6)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("epsilon", [1e-5, 1e-12, 0.123456789012345])
def test_float32_comes_back_exactly(tied: bool, epsilon: float, write: Make) -> None:
    path = write(tie_word_embeddings=tied, layer_norm_epsilon=epsilon, dropout=0.1)
    imported, notes = read_gpt2(path)
    original = load_bundle(path.parent / "bundle")
    assert notes == ()
    assert imported.model == original.model
    assert imported.tokenizer == original.tokenizer
    assert imported.tensors.keys() == original.tensors.keys()
    for name, tensor in original.tensors.items():
        assert np.array_equal(imported.tensors[name], tensor), name
    assert ("output.weight" in read_header(path).tensors) is not tied


@pytest.mark.parametrize(("quantize", "error"), [("f16", 2**-11), ("q8_0", 0.6 / 127)])
def test_rounded_matrices_come_back_within_their_rounding(
    quantize: str, error: float, write: Make
) -> None:
    path = write(quantize, n_embd=64, n_head=2)
    bundle, original = read_gpt2(path).bundle, load_bundle(path.parent / "bundle")
    for name, tensor in original.tensors.items():
        difference = np.abs(bundle.tensors[name] - tensor).max()
        is_rounded = tensor.ndim == 2 and "wpe" not in name
        assert (0 < difference <= error * np.abs(tensor).max()) if is_rounded else difference == 0
    certificate = gguf_export.check(path)
    other = {"f16": "q8_0", "q8_0": "f16"}[quantize]
    assert 0 < certificate[quantize]["kl_mean"] < 1e-3  # type: ignore[literal-required]
    assert certificate[other] is None  # type: ignore[literal-required]
    assert f"; {quantize} costs" in gguf_export.describe(certificate)


def test_rows_that_are_not_blocks_of_32_are_float16(write: Make) -> None:
    path = write("q8_0")
    types = {name: info.storage.name for name, info in read_header(path).tensors.items()}
    assert types["blk.0.ffn_down.weight"] == "Q8_0"  # of 96 inputs
    assert types["blk.0.ffn_up.weight"] == "F16"  # of 24
    assert types["position_embd.weight"] == types["blk.0.ffn_up.bias"] == "F32"
    count = [*types.values()].count("F16")
    assert f"; {count} matrices are f16" in gguf_export.describe(gguf_export.check(path))


def test_an_exact_gelu_is_kept_and_its_cost_in_llama_cpp_is_said(write: Make) -> None:
    path = write(activation="gelu")
    assert contents(path)["valyrian.activation"] == "gelu"
    assert read_gpt2(path).bundle.model.activation == "gelu"
    certificate = gguf_export.check(path)
    cost = certificate["tanh_gelu"]
    assert cost is not None
    assert 0 < cost["kl_mean"] < 1e-4
    assert "; the GELU of llama.cpp, which lacks the exact one, costs" in gguf_export.describe(
        certificate
    )


def test_the_same_bundle_gives_the_same_bytes(plain: Path) -> None:
    again = plain.with_name("again.gguf")
    gguf_export.write(plain.parent / "bundle", again)
    assert again.read_bytes() == plain.read_bytes()


def test_a_weight_too_large_for_float16_is_refused(make: Any, tmp_path: Path) -> None:
    bundle = make(n_embd=32, n_head=2)
    bundle.tensors["transformer.h.0.mlp.c_fc.weight"][0, 0] = 1e7
    save_bundle(bundle, tmp_path / "bundle")
    for quantize in ("f16", "q8_0"):
        with pytest.raises(UserError, match=r"cannot store blk.0.ffn_up.weight as (F16|Q8_0)"):
            gguf_export.write(tmp_path / "bundle", tmp_path / "model.gguf", quantize)


def test_a_tokenizer_without_merges_is_refused(make: Any, tmp_path: Path) -> None:
    bundle = make(vocab_size=257)
    tokens = (*bundle.tokenizer.tokens[:256], b"<|endoftext|>")
    tokenizer = Tokenizer(tokens, (), {"<|endoftext|>": 256})
    save_bundle(replace(bundle, tokenizer=tokenizer), tmp_path / "bundle")
    with pytest.raises(UserError, match="without merges"):
        gguf_export.write(tmp_path / "bundle", tmp_path / "model.gguf")


def test_an_epsilon_that_is_no_positive_float32_is_refused(write: Make) -> None:
    for epsilon in (1e-50, 1e300):
        with pytest.raises(UserError, match="as GGUF: expected a positive float32"):
            write(layer_norm_epsilon=epsilon)


def test_the_file_generates_the_texts_of_the_bundle(plain: Path, small: Bundle) -> None:
    start = torch.tensor([[small.tokenizer.end_of_text]])
    settings = (30, 0.8, 0, 0.95, 5)
    texts = [Generator(b).generate(start, *settings) for b in (read_gpt2(plain).bundle, small)]
    assert torch.equal(*texts)


def test_check_finds_a_changed_weight_and_a_missing_certificate(plain: Path) -> None:
    changed = plain.with_name("changed.gguf")
    offset = read_header(plain).tensors["output.weight"].offset
    data = plain.read_bytes()
    changed.write_bytes(data[:offset] + np.float32(9).tobytes() * 24 * 20 + data[offset + 1920 :])
    with pytest.raises(UserError, match="generates another text than when it was exported"):
        gguf_export.check(changed)
    changed.write_bytes(data.replace(b"valyrian.certificate", b"valyrian.otherhings_"))
    with pytest.raises(UserError, match="has no certificate"):
        gguf_export.check(changed)


@pytest.mark.slow
def test_the_commands_of_the_readme_run(
    directory: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    section = README.partition("\n## GGUF\n")[2].partition("\n## ")[0]
    commands = re.findall(r"^python -m bridge (.*)$", section, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    outputs = {}
    for command in commands:
        arguments = shlex.split(command, comments=True)
        arguments[1:1] = [str(directory)] if arguments[0] == "export" else []
        status, outputs[arguments[0]], _ = call(bridge_main.main, capsys, monkeypatch, *arguments)
        assert status == 0, command
    assert [*outputs] == ["export", "check", "import"]
    assert "small.gguf: " in outputs["export"]
    assert "the weights before q8_0 are not proven equal" in outputs["export"]
    assert outputs["check"].startswith("valyrian.gguf: 6 example texts reproduced; not proven")
    assert load_bundle("from-gguf").tokenizer == load_bundle(directory).tokenizer
    keys = {key.removeprefix("valyrian.") for key in contents(Path("valyrian.gguf"))}
    for name in ("activation", "config", "manifest", "certificate"):
        assert f"`valyrian.{name}`" in section
        assert name in keys
