"""Files of weights run no code, fit into memory and may change while they are read."""

import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import GPT2LMHeadModel

from bridge.importers import checkpoint_files
from bridge.importers.checkpoint_files import read_checkpoint
from bridge.importers.gpt2 import read_gpt2
from bridge.importers.mapped_file import copy_mapped
from tests.support.gpt2 import replace_weights
from valyrian_jax.errors import UserError


def test_nothing_but_tensors_and_plain_values_is_unpickled(
    reference: GPT2LMHeadModel, gpt2_directory: Path, tmp_path: Path
) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "harmed",))

    weights = gpt2_directory / "pytorch_model.bin"
    replace_weights(gpt2_directory, weights.name, reference.state_dict())
    for content in (b"", b"junk"):
        weights.write_bytes(content)
        with pytest.raises(UserError, match=r"damaged or holds more .* not read(: [^;]+)?; copy"):
            read_gpt2(gpt2_directory)
    weights.write_bytes(pickle.dumps(Harmful(), protocol=2))
    with pytest.raises(UserError, match="holds a pickled|damaged or holds more than tensors"):
        read_gpt2(gpt2_directory)
    torch.save({"a": Harmful()}, weights)
    with pytest.raises(UserError, match="holds a pickled|damaged or holds more than tensors"):
        read_gpt2(gpt2_directory)
    assert not (tmp_path / "harmed").exists()
    # a configuration as an object of a class, as some training programs save it
    torch.save({"model": reference.state_dict(), "config": reference.config}, weights)
    with pytest.raises(UserError, match=r"holds a pickled transformers\S+GPT2Config, expected"):
        read_gpt2(gpt2_directory)


def test_files_of_other_formats_are_named(gpt2_directory: Path) -> None:
    path = gpt2_directory / "pytorch_model.bin"
    for content, name in (
        (b"GGUF\3\0\0\0", "a GGUF file"),
        (struct.pack("<3i", 20240326, 3, 1024), "a checkpoint of llm.c"),
    ):
        path.write_bytes(content + bytes(1000))
        with pytest.raises(UserError, match=f"is {name}, expected a state_dict of PyTorch"):
            read_gpt2(gpt2_directory)
    with zipfile.ZipFile(path, "w") as archive:
        for member in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"model/{member}", b"")
    with pytest.raises(UserError, match="is a TorchScript file"):
        read_gpt2(gpt2_directory)
    path.write_bytes(b"junk" * 100)
    with pytest.raises(UserError) as caught:
        read_gpt2(gpt2_directory)
    assert "weights_only" not in str(caught.value)  # whose advice is to run what is in the file


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_weights_that_do_not_fit_into_memory_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {"wte.weight": torch.zeros(1000)}
    path = tmp_path / name
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    assert read_checkpoint(path).tensors["wte.weight"].shape == (1000,)
    monkeypatch.setattr(checkpoint_files, "memory_bytes", lambda: 4_000)
    with pytest.raises(UserError, match=f"importing .*{name} does not fit into memory"):
        read_checkpoint(path)


# Files that change while they are read: once they are open, before their weights are read.


@pytest.fixture
def when_open(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """A function that has something done before the weights of the next file are read."""

    def when_open(action: Callable[[], None]) -> None:
        monkeypatch.setattr(checkpoint_files, "memory_bytes", lambda: action() or 1 << 30)

    return when_open


@pytest.mark.parametrize("rest", [0, 4096, 1 << 21], ids=["empty", "one page", "half"])
def test_a_file_that_becomes_shorter_while_it_is_read_is_an_error(
    rest: int, tmp_path: Path, when_open: Callable[[Callable[[], None]], None]
) -> None:
    path = tmp_path / "model.pt"
    torch.save({"wte.weight": torch.ones(1 << 20)}, path)
    when_open(lambda: os.truncate(path, rest))
    with pytest.raises(UserError, match="the file became shorter while it was read"):
        read_checkpoint(path)


def test_a_file_that_is_replaced_while_it_is_read_gives_its_old_weights(
    tmp_path: Path, when_open: Callable[[Callable[[], None]], None]
) -> None:
    path, other, weights = tmp_path / "model.pt", tmp_path / "other", torch.arange(5000) / 7
    torch.save({"wte.weight": weights}, path)
    other.write_bytes(b"")
    when_open(lambda: other.replace(path) and None)
    array = read_checkpoint(path).tensors["wte.weight"]
    assert path.stat().st_size == 0
    assert np.array_equal(array, weights.numpy())


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(100_000.0).view(250, 400).T,
        torch.arange(24.0).view(4, 6)[1:, 2:4],
        torch.arange(4.0)[2].expand(3, 5),
        torch.nn.Parameter(torch.ones(3)),
        torch.tensor(3, dtype=torch.int64),
        torch.arange(9, dtype=torch.bfloat16),
        torch.ones(5, dtype=torch.bool)[::2],
        torch.zeros(0, 4),
    ],
    ids=lambda tensor: f"{tensor.dtype} {[*tensor.shape]}",
)
def test_a_copy_of_a_mapped_tensor_equals_it(tensor: Tensor) -> None:
    copy = copy_mapped(tensor)
    assert torch.equal(copy, tensor)
    assert copy.dtype == tensor.dtype
    assert (
        copy.untyped_storage().data_ptr() != tensor.untyped_storage().data_ptr() or not copy.numel()
    )
