"""The PyTorch model equals the GPT-2 of `transformers`, and its weights are those of the bundle."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from bridge.gpt import to_module, to_tensors
from bridge.inspection import attention_weights, lens_logits
from valyrian_jax.bundle.bundle import Bundle, save_bundle
from valyrian_jax.errors import UserError
from valyrian_jax.inspection.logit_lens import lens
from valyrian_jax.model.activations import attention_weights as jax_attention_weights
from valyrian_jax.model.parameters import from_tensors


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_logits_equal_those_of_transformers(
    make: Callable[..., Bundle], tied: bool, activation: Any, tmp_path: Path
) -> None:
    bundle = make(tie_word_embeddings=tied, activation=activation)
    save_bundle(bundle, tmp_path / "bundle")
    reference = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "bundle").double().eval()
    tokens = torch.randint(0, 300, (3, 24), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, logits = reference(tokens).logits, to_module(bundle).double()(tokens)
    assert (logits - expected).abs().max() <= 1e-12 * expected.abs().max()
    assert expected.abs().max() > 1


def test_the_cache_gives_the_logits_of_a_full_forward_pass(small: Bundle) -> None:
    gpt = to_module(small).double()
    tokens = torch.randint(0, 300, (2, 24), generator=torch.Generator().manual_seed(1))
    expected = gpt(tokens)
    for sizes in ([24], [1] * 24, [5, 1, 1, 9, 8], [23, 1], [1, 23]):
        cache, start = gpt.make_cache(2, 24), 0
        for size in sizes:
            logits = gpt.forward_cached(tokens[:, start : start + size], cache, start)
            start += size
            assert (logits - expected[:, start - 1]).abs().max() < 1e-12


def test_every_weight_gets_a_gradient(small: Bundle) -> None:
    gpt = to_module(small).requires_grad_(True)
    gpt(torch.zeros(1, 3, dtype=torch.int64)).logsumexp(-1).sum().backward()
    assert all(p.grad is not None for p in gpt.parameters())


def test_attention_weights_equal_those_of_jax_and_transformers(
    small: Bundle, directory: Path
) -> None:
    shape = 2, small.model.n_positions
    tokens = np.random.default_rng(0).integers(0, small.model.vocab_size, shape)
    ours = torch.stack([*attention_weights(to_module(small), torch.tensor(tokens))]).numpy()
    params = from_tensors(small.tensors)
    from_jax = jax_attention_weights(params, jnp.asarray(tokens), small.model)
    reference = transformers.GPT2LMHeadModel.from_pretrained(directory, attn_implementation="eager")
    with torch.no_grad():
        attentions = reference(torch.tensor(tokens), output_attentions=True).attentions
    expected = torch.stack(attentions).numpy()
    assert expected.shape == (2, 2, 3, 24, 24)
    np.testing.assert_allclose(ours, expected, atol=2e-6)
    np.testing.assert_allclose(np.asarray(from_jax), expected, atol=2e-6)


@pytest.mark.parametrize("tied", [False, True])
def test_the_lens_equals_that_of_jax(make: Callable[..., Bundle], tied: bool) -> None:
    bundle = make(tie_word_embeddings=tied)
    tokens = np.random.default_rng(0).integers(0, 300, (2, 24))
    module = to_module(bundle)
    ours = torch.stack([*lens_logits(module, torch.tensor(tokens))])
    assert torch.equal(ours[-1], module(torch.tensor(tokens)))
    from_jax = np.stack([*lens(from_tensors(bundle.tensors), tokens, bundle.model)])
    assert from_jax.shape == (3, 2, 24, 300)
    np.testing.assert_allclose(ours.numpy(), from_jax, atol=1e-5 * abs(from_jax).max())


def test_attention_is_causal_and_the_weights_of_a_query_sum_to_one(small: Bundle) -> None:
    weights = torch.stack([*attention_weights(to_module(small), torch.tensor([[5, 6, 7, 8]]))])
    assert torch.all(weights.triu(1) == 0)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 1, 3, 4))


@pytest.mark.parametrize("tied", [False, True])
def test_every_tensor_survives_the_round_trip(make: Callable[..., Bundle], tied: bool) -> None:
    bundle = make(tie_word_embeddings=tied)
    module = to_module(bundle)
    assert [name for name, _ in module.named_parameters()] == list(bundle.tensors)
    tensors = to_tensors(module, bundle.model)
    assert tensors.keys() == bundle.tensors.keys()
    for name, tensor in bundle.tensors.items():
        assert np.array_equal(tensors[name], tensor), name


def test_changing_the_module_leaves_the_bundle_unchanged(small: Bundle) -> None:
    before = small.tensors["transformer.wte.weight"].copy()
    module = to_module(small)
    module.transformer.wte.weight.zero_()
    assert np.array_equal(small.tensors["transformer.wte.weight"], before)


def test_one_error_lists_all_problems_of_the_weights(small: Bundle) -> None:
    tensors = dict(small.tensors)
    wrong = {
        "transformer.h.0.ln_1.bias": None,
        "transformer.h.1.mlp.c_fc.weight": tensors["transformer.h.1.mlp.c_fc.weight"].T,
        "transformer.h.7.ln_1.bias": tensors["transformer.h.0.ln_1.bias"],
        "transformer.wpe.weight": tensors["transformer.wpe.weight"] * np.nan,
        **{f"more.{i}": np.zeros(1, np.float32) for i in range(10)},
    }
    tensors.update({name: tensor for name, tensor in wrong.items() if tensor is not None})
    del tensors["transformer.h.0.ln_1.bias"]
    with pytest.raises(UserError) as error:
        to_module(Bundle(small.model, tensors, small.tokenizer))
    message = str(error.value)
    assert "\n" not in message
    assert all(name in message for name in wrong)
    assert "has shape (96, 24), expected (24, 96)" in message
