"""Weights are read from every file, name and precision in which programs save a GPT-2."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GPT2LMHeadModel

from bridge.importers.gpt2 import read_gpt2
from tests.support.gpt2 import assert_equal, replace_weights
from valyrian_jax.errors import UserError

State = dict[str, Tensor]


def rename(state: Mapping[str, Tensor], function: Callable[[str], str]) -> State:
    return {function(name): tensor for name, tensor in state.items()}


def wrap_modules(name: str) -> str:
    """Return the name of a parameter whose block and whose MLP are wrapped."""
    name = name.replace(".attn.", "._checkpoint_wrapped_module.attn.")
    return name.replace(".mlp.", "._orig_mod.mlp._fsdp_wrapped_module.")


NAMES: dict[str, Callable[[GPT2LMHeadModel], State]] = {
    "no prefix": lambda model: model.transformer.state_dict(),
    "DataParallel": lambda model: torch.nn.DataParallel(model).state_dict(),
    "Lightning": lambda model: torch.nn.ModuleDict({"model": model}).state_dict(),
    "torch.compile": lambda model: rename(model.state_dict(), lambda name: f"_orig_mod.{name}"),
    "four of them": lambda model: rename(
        model.state_dict(), lambda name: f"module.model._orig_mod.model.{name}"
    ),
    "the base model in a wrapper": lambda model: rename(
        model.transformer.state_dict(), lambda name: f"_orig_mod.{name}"
    ),
    "wrapped blocks": lambda model: rename(model.state_dict(), wrap_modules),
    "both the module and its wrapper": lambda model: {
        **model.state_dict(),
        **rename(model.state_dict(), lambda name: f"_orig_mod.{name}"),
    },
}


@pytest.mark.parametrize("name", NAMES)
def test_names_with_the_prefixes_of_wrappers_are_read(
    name: str, reference: GPT2LMHeadModel, gpt2_directory: Path
) -> None:
    replace_weights(gpt2_directory, "pytorch_model.bin", NAMES[name](reference))
    assert_equal(read_gpt2(gpt2_directory).bundle, reference)


def test_two_tensors_of_one_parameter_must_be_equal(
    reference: GPT2LMHeadModel, gpt2_directory: Path
) -> None:
    state = reference.state_dict() | {"module.ln_f.bias": torch.ones(30)}
    replace_weights(gpt2_directory, "pytorch_model.bin", state)
    with pytest.raises(UserError, match=r"ln_f.bias and module.ln_f.bias are the same parameter"):
        read_gpt2(gpt2_directory)


CONTAINERS: dict[str, Callable[[State], Any]] = {
    "model_state_dict": lambda state: {"model_state_dict": state, "epoch": 3},
    "state_dict": lambda state: {"state_dict": state, "hyper_parameters": {"lr": 0.1}},
    "module": lambda state: {"module": state, "optimizer": {"state": {}}},
    "nested": lambda state: {"model": {"state_dict": state}, "loss": torch.tensor(1.0)},
}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("file", ["pytorch_model.bin", "last.pt", "weights.pth"])
def test_weights_inside_of_a_training_state_are_read(
    name: str, file: str, reference: GPT2LMHeadModel, gpt2_directory: Path
) -> None:
    replace_weights(gpt2_directory, file, CONTAINERS[name](reference.state_dict()))
    torch.save({"lr": 0.1}, gpt2_directory / "optimizer.pt")
    assert_equal(read_gpt2(gpt2_directory).bundle, reference)
    assert_equal(read_gpt2(gpt2_directory / file).bundle, reference)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_sharded_weights_are_read_and_a_missing_shard_is_reported(
    suffix: str, reference: GPT2LMHeadModel, gpt2_directory: Path, tmp_path: Path
) -> None:
    sharded = tmp_path / "sharded"
    reference.save_pretrained(sharded, max_shard_size="40KB")
    shards = sorted(sharded.glob("*.safetensors"))
    assert len(shards) > 2
    if suffix == "bin":
        index = (sharded / "model.safetensors.index.json").read_text()
        (sharded / "model.safetensors.index.json").unlink()
        (sharded / "pytorch_model.bin.index.json").write_text(index.replace(".safetensors", ".bin"))
        for shard in shards:
            torch.save(load_file(shard), shard.with_suffix(".bin"))
            shard.unlink()
    tokenizer = gpt2_directory / "tokenizer.json"
    assert_equal(read_gpt2(sharded, tokenizer).bundle, reference)
    next(sharded.glob(f"*.{suffix}")).unlink()
    with pytest.raises(UserError, match="is missing"):
        read_gpt2(sharded, tokenizer)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_other_precisions_become_float32(
    dtype: torch.dtype, file: str, reference: GPT2LMHeadModel, gpt2_directory: Path
) -> None:
    path = gpt2_directory / "model.safetensors"
    state = {name: tensor.to(dtype) for name, tensor in load_file(path).items()}
    if file == path.name:
        save_file(state, path)
    else:
        replace_weights(gpt2_directory, file, state)
    imported = read_gpt2(gpt2_directory).bundle
    assert {tensor.dtype for tensor in imported.tensors.values()} == {np.dtype("float32")}
    assert_equal(imported, reference.to(dtype).float())


@pytest.mark.parametrize("file", ["pytorch_model.bin", "last.pt"])
def test_safetensors_under_another_name_are_read(
    file: str, reference: GPT2LMHeadModel, gpt2_directory: Path
) -> None:
    (gpt2_directory / "model.safetensors").rename(gpt2_directory / file)
    assert_equal(read_gpt2(gpt2_directory).bundle, reference)


def test_the_format_of_old_pytorch_versions_is_read(
    reference: GPT2LMHeadModel, gpt2_directory: Path
) -> None:
    (gpt2_directory / "model.safetensors").unlink()
    state = reference.transformer.state_dict()
    torch.save(state, gpt2_directory / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert_equal(read_gpt2(gpt2_directory).bundle, reference)


def test_mask_buffers_are_ignored_and_biases_are_not(
    reference: GPT2LMHeadModel, gpt2_directory: Path
) -> None:
    masks = {
        f"transformer.h.{i}.attn.{name}": tensor
        for i in range(3)
        for name, tensor in {
            "bias": torch.ones(1, 1, 22, 22, dtype=torch.uint8).tril(),
            "masked_bias": torch.tensor(-1e4),
        }.items()
    }
    replace_weights(gpt2_directory, "pytorch_model.bin", reference.state_dict() | masks)
    assert_equal(read_gpt2(gpt2_directory).bundle, reference)
    wrong = reference.state_dict() | {"transformer.h.0.attn.bias": torch.ones(30)}
    torch.save(wrong, gpt2_directory / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"h.0.attn.bias is unknown"):
        read_gpt2(gpt2_directory)
