"""GPT-2 directories from other projects import as bundles with the same logits."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from bridge.gpt import to_module
from bridge.importers.hf_gpt2 import read_gpt2, read_tokenizer
from valyrian_jax.bundle.bundle import Bundle, load_bundle, save_bundle
from valyrian_jax.config import load_config
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer, train_bpe
from valyrian_jax.training.run import train

TEXT = (
    "the quick dragon sees a lazy wolf, and the wolf jumps over seventeen rivers; don't they? " * 20
)
TOKENS = torch.arange(44).view(2, 22)


@pytest.fixture
def gpt2_directory(tmp_path: Path) -> Path:
    return tmp_path / "gpt2"


@pytest.fixture
def reference(gpt2_directory: Path) -> GPT2LMHeadModel:
    """A random GPT-2 of odd sizes, saved in `gpt2_directory`."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=301,
        n_positions=22,
        n_embd=30,
        n_layer=3,
        n_head=5,
        layer_norm_epsilon=2e-5,
        initializer_range=0.2,
    )
    model = GPT2LMHeadModel(config).eval()
    model.save_pretrained(gpt2_directory)
    train_bpe(TEXT, 301).save(gpt2_directory / "tokenizer.json")
    return model


def assert_equal(bundle: Bundle, reference: torch.nn.Module) -> None:
    with torch.no_grad():
        expected = reference(TOKENS).logits
    tolerance = 1e-5 * max(1.0, float(expected.abs().max()))
    assert (to_module(bundle)(TOKENS) - expected).abs().max() <= tolerance


def test_an_imported_model_trains_on_and_opens_in_transformers(
    reference: GPT2LMHeadModel, gpt2_directory: Path, tmp_path: Path
) -> None:
    imported = read_gpt2(gpt2_directory)
    assert_equal(imported, reference)
    save_bundle(imported, tmp_path / "imported")
    (tmp_path / "text.txt").write_text("\n\n".join([TEXT] * 12))
    settings = {
        "data.path": str(tmp_path / "text.txt"),
        "train.steps": 20,
        "train.eval_every": 10,
        "train.checkpoint_every": 20,
        "train.sample_every": 0,
        "wandb.mode": "off",
        "train.device": "cpu",
    }
    config = load_config(None, settings)
    result = train(config, tmp_path / "run", init=tmp_path / "imported")
    trained = load_bundle(result.directory / "bundle")
    assert trained.model.n_embd == 30
    name = "transformer.wte.weight"
    assert not np.array_equal(trained.tensors[name], imported.tensors[name])
    assert_equal(trained, GPT2LMHeadModel.from_pretrained(result.directory / "bundle").eval())


def test_sharded_weights_are_read_and_a_missing_shard_is_reported(
    reference: GPT2LMHeadModel, gpt2_directory: Path, tmp_path: Path
) -> None:
    reference.save_pretrained(tmp_path / "sharded", max_shard_size="40KB")
    shards = sorted((tmp_path / "sharded").glob("*.safetensors"))
    assert len(shards) > 2
    assert_equal(read_gpt2(tmp_path / "sharded", gpt2_directory / "tokenizer.json"), reference)
    shards[0].unlink()
    with pytest.raises(UserError, match="is missing, though the index lists it"):
        read_gpt2(tmp_path / "sharded", gpt2_directory / "tokenizer.json")


def test_pickled_weights_are_read_without_running_code_in_them(
    reference: GPT2LMHeadModel, gpt2_directory: Path, tmp_path: Path
) -> None:
    (gpt2_directory / "model.safetensors").unlink()
    weights = gpt2_directory / "pytorch_model.bin"
    torch.save(reference.transformer.state_dict(), weights)  # names without a prefix
    assert_equal(read_gpt2(gpt2_directory), reference)

    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "harmed",))

    for content in (pickle.dumps(Harmful(), protocol=2), b"", b"junk"):
        weights.write_bytes(content)
        with pytest.raises(UserError, match="damaged or holds more than tensors"):
            read_gpt2(gpt2_directory)
    torch.save({"a": Harmful()}, weights)
    with pytest.raises(UserError, match="damaged or holds more than tensors"):
        read_gpt2(gpt2_directory)
    assert not (tmp_path / "harmed").exists()


def test_variants_of_the_format_are_read(reference: GPT2LMHeadModel, gpt2_directory: Path) -> None:
    config = json.loads((gpt2_directory / "config.json").read_text())
    config |= {"activation_function": "gelu_pytorch_tanh", "initializer_range": 0}
    (gpt2_directory / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((gpt2_directory / "tokenizer.json").read_text())
    del tokenizer["model"]["type"]  # GPT-2's own file has none
    (gpt2_directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    (gpt2_directory / "model.safetensors").unlink()
    head_only = {name: torch.nn.Parameter(p) for name, p in reference.state_dict().items()}
    del head_only["transformer.wte.weight"]
    torch.save(head_only, gpt2_directory / "pytorch_model.bin")
    assert_equal(read_gpt2(gpt2_directory), reference)


def test_bfloat16_becomes_float32(reference: GPT2LMHeadModel, gpt2_directory: Path) -> None:
    path = gpt2_directory / "model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path)
    imported = read_gpt2(gpt2_directory)
    assert {tensor.dtype for tensor in imported.tensors.values()} == {np.dtype("float32")}
    assert_equal(imported, reference.bfloat16().float())


def test_a_tokenizer_in_two_files_is_read(tmp_path: Path) -> None:
    tokenizer = train_bpe(TEXT, 301)
    tokenizer.save(tmp_path / "tokenizer.json")
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    lines = [" ".join(merge) for merge in model["merges"]]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *lines, ""]), encoding="utf-8")
    assert read_tokenizer(tmp_path) == tokenizer
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(UserError, match=r"cannot read .*merges.txt"):
        read_tokenizer(tmp_path)


@pytest.mark.usefixtures("reference")
def test_an_error_names_what_does_not_match(gpt2_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no directory at"):
        read_gpt2(tmp_path / "none")
    train_bpe(TEXT, 300).save(tmp_path / "other.json")
    with pytest.raises(UserError, match="tokenizer has 300 tokens, the model 301"):
        read_gpt2(gpt2_directory, tmp_path / "other.json")
    renamed = (gpt2_directory / "tokenizer.json").read_text().replace("<|endoftext|>", "<|end|>")
    (tmp_path / "other.json").write_text(renamed)
    with pytest.raises(UserError, match=r"has no <\|endoftext\|> token"):
        read_gpt2(gpt2_directory, tmp_path / "other.json")
    assert Tokenizer.load(gpt2_directory / "tokenizer.json").vocab_size == 301
    (gpt2_directory / "model.safetensors").rename(gpt2_directory / "weights.safetensors")
    with pytest.raises(UserError, match=r"holds no weights; expected one of model.safetensors"):
        read_gpt2(gpt2_directory)
