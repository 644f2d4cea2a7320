"""Weights go over whole and come back whole."""

from collections.abc import Callable

import numpy as np
import pytest

from bridge.gpt import to_module, to_tensors
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.errors import UserError


@pytest.mark.parametrize("tied", [False, True])
def test_every_tensor_goes_over_once_and_comes_back(
    make: Callable[..., Bundle], tied: bool
) -> None:
    source = make(tie_word_embeddings=tied)
    module = to_module(source)
    assert [name for name, _ in module.named_parameters()] == list(source.tensors)
    found = to_tensors(module, source.model)
    assert found.keys() == source.tensors.keys()
    for name, tensor in source.tensors.items():
        assert np.array_equal(found[name], tensor), name


def test_the_module_owns_its_weights(small: Bundle) -> None:
    before = small.tensors["transformer.wte.weight"].copy()
    module = to_module(small)
    module.transformer.wte.weight.zero_()
    assert np.array_equal(small.tensors["transformer.wte.weight"], before)


def test_all_problems_stand_in_one_error(small: Bundle) -> None:
    tensors = dict(small.tensors)
    wrong = {
        "transformer.h.0.ln_1.bias": None,
        "transformer.h.1.mlp.c_fc.weight": tensors["transformer.h.1.mlp.c_fc.weight"].T,
        "transformer.h.7.ln_1.bias": tensors["transformer.h.0.ln_1.bias"],
        "transformer.wpe.weight": tensors["transformer.wpe.weight"] * np.nan,
        **{f"more.{i}": np.zeros(1, np.float32) for i in range(20)},
    }
    tensors.update({name: tensor for name, tensor in wrong.items() if tensor is not None})
    del tensors["transformer.h.0.ln_1.bias"]
    with pytest.raises(UserError) as error:
        to_module(Bundle(small.model, tensors, small.tokenizer))
    message = str(error.value)
    assert "\n" not in message
    assert all(name in message for name in wrong)
    assert "has shape (96, 24), expected (24, 96)" in message
