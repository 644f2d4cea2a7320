"""GPT-2 directories that others wrote, and the way there and back."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

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
def theirs(tmp_path: Path) -> transformers.GPT2LMHeadModel:
    """A random GPT-2 of odd sizes, in tmp_path / "foreign"."""
    torch.manual_seed(0)
    settings = transformers.GPT2Config(
        vocab_size=301,
        n_positions=22,
        n_embd=30,
        n_layer=3,
        n_head=5,
        layer_norm_epsilon=2e-5,
        initializer_range=0.2,
    )
    model = transformers.GPT2LMHeadModel(settings).eval()
    model.save_pretrained(tmp_path / "foreign")
    train_bpe(TEXT, 301).save(tmp_path / "foreign" / "tokenizer.json")
    return model


def assert_equal(found: Bundle, theirs: torch.nn.Module) -> None:
    with torch.no_grad():
        expected = theirs(TOKENS).logits
    assert (to_module(found)(TOKENS) - expected).abs().max() <= 1e-5 * max(
        1.0, float(expected.abs().max())
    )


def test_in_trained_and_out_again(theirs: transformers.GPT2LMHeadModel, tmp_path: Path) -> None:
    found = read_gpt2(tmp_path / "foreign")
    assert_equal(found, theirs)
    save_bundle(found, tmp_path / "imported")
    (tmp_path / "text.txt").write_text("\n\n".join([TEXT] * 12))
    settings = load_config(
        None,
        {
            "data.path": str(tmp_path / "text.txt"),
            **{
                "train.steps": 20,
                "train.eval_every": 10,
                "train.checkpoint_every": 20,
                "train.sample_every": 0,
            },
            **{"wandb.mode": "off", "train.device": "cpu"},
        },
    )
    result = train(settings, tmp_path / "run", init=tmp_path / "imported")
    trained = load_bundle(result.directory / "bundle")
    assert trained.model.n_embd == 30
    assert not np.array_equal(
        trained.tensors["transformer.wte.weight"], found.tensors["transformer.wte.weight"]
    )
    assert_equal(
        trained, transformers.GPT2LMHeadModel.from_pretrained(result.directory / "bundle").eval()
    )


def test_shards_are_put_together(theirs: transformers.GPT2LMHeadModel, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    vocabulary = tmp_path / "foreign" / "tokenizer.json"
    assert_equal(read_gpt2(tmp_path / "shards", vocabulary), theirs)
    next(iter(sorted((tmp_path / "shards").glob("*.safetensors")))).unlink()
    with pytest.raises(UserError, match="is missing, though the index lists it"):
        read_gpt2(tmp_path / "shards", vocabulary)


def test_old_files_are_read_without_running_what_is_in_them(
    theirs: transformers.GPT2LMHeadModel, tmp_path: Path
) -> None:
    directory = tmp_path / "foreign"
    (directory / "model.safetensors").unlink()
    torch.save(
        theirs.transformer.state_dict(), directory / "pytorch_model.bin"
    )  # names without a prefix
    assert_equal(read_gpt2(directory), theirs)

    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "harmed",))

    for content in (pickle.dumps(Harmful(), protocol=2), b"", b"junk"):
        (directory / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(UserError, match="damaged or holds more than tensors"):
            read_gpt2(directory)
    torch.save({"a": Harmful()}, directory / "pytorch_model.bin")
    with pytest.raises(UserError, match="damaged or holds more than tensors"):
        read_gpt2(directory)
    assert not (tmp_path / "harmed").exists()


def test_other_ways_to_say_the_same_are_read(
    theirs: transformers.GPT2LMHeadModel, tmp_path: Path
) -> None:
    directory = tmp_path / "foreign"
    settings = json.loads((directory / "config.json").read_text())
    settings |= {"activation_function": "gelu_pytorch_tanh", "initializer_range": 0}
    (directory / "config.json").write_text(json.dumps(settings))
    vocabulary = json.loads((directory / "tokenizer.json").read_text())
    del vocabulary["model"]["type"]  # as in GPT-2's own file
    (directory / "tokenizer.json").write_text(json.dumps(vocabulary))
    (directory / "model.safetensors").unlink()
    only_head = {
        name: p for name, p in theirs.state_dict().items() if name != "transformer.wte.weight"
    }
    torch.save(
        {name: torch.nn.Parameter(p) for name, p in only_head.items()},
        directory / "pytorch_model.bin",
    )
    assert_equal(read_gpt2(directory), theirs)


def test_bfloat16_becomes_float32(theirs: transformers.GPT2LMHeadModel, tmp_path: Path) -> None:
    path = tmp_path / "foreign" / "model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path)
    found = read_gpt2(tmp_path / "foreign")
    assert {tensor.dtype for tensor in found.tensors.values()} == {np.dtype("float32")}
    assert_equal(found, theirs.bfloat16().float())


def test_a_vocabulary_in_two_files(tmp_path: Path) -> None:
    learnt = train_bpe(TEXT, 301)
    learnt.save(tmp_path / "tokenizer.json")
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    lines = [" ".join(merge) for merge in model["merges"]]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *lines, ""]), encoding="utf-8")
    assert read_tokenizer(tmp_path) == learnt
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(UserError, match=r"cannot read .*merges.txt"):
        read_tokenizer(tmp_path)


def test_what_does_not_fit_is_named(theirs: transformers.GPT2LMHeadModel, tmp_path: Path) -> None:
    directory = tmp_path / "foreign"
    with pytest.raises(UserError, match="no directory at"):
        read_gpt2(tmp_path / "none")
    train_bpe(TEXT, 300).save(tmp_path / "other.json")
    with pytest.raises(UserError, match="tokenizer has 300 tokens, the model 301"):
        read_gpt2(directory, tmp_path / "other.json")
    renamed = (directory / "tokenizer.json").read_text().replace("<|endoftext|>", "<|end|>")
    (tmp_path / "other.json").write_text(renamed)
    with pytest.raises(UserError, match=r"has no <\|endoftext\|> token"):
        read_gpt2(directory, tmp_path / "other.json")
    assert Tokenizer.load(directory / "tokenizer.json").vocab_size == 301
    (directory / "model.safetensors").rename(directory / "weights.safetensors")
    with pytest.raises(UserError, match=r"holds no weights; expected one of model.safetensors"):
        read_gpt2(directory)
