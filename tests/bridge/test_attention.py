"""Attention weights: JAX's, ours in PyTorch and those of transformers are the same."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import torch
import transformers

from bridge.gpt import attention_weights, to_module
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.model import gpt as jax_gpt
from valyrian_jax.model.parameters import from_tensors


def test_three_runtimes_look_at_the_same_tokens(small: Bundle, directory: Path) -> None:
    tokens = np.random.default_rng(0).integers(
        0, small.model.vocab_size, (2, small.model.n_positions)
    )
    ours = torch.stack([*attention_weights(to_module(small), torch.tensor(tokens))]).numpy()
    jax_side = np.asarray(
        jax_gpt.attention_weights(from_tensors(small.tensors), jnp.asarray(tokens), small.model)
    )
    oracle = transformers.GPT2LMHeadModel.from_pretrained(directory, attn_implementation="eager")
    with torch.no_grad():
        theirs = oracle(torch.tensor(tokens), output_attentions=True).attentions
    expected = torch.stack(theirs).numpy()
    assert expected.shape == (2, 2, 3, 24, 24)
    np.testing.assert_allclose(ours, expected, atol=2e-6)
    np.testing.assert_allclose(jax_side, expected, atol=2e-6)


def test_nobody_looks_ahead_and_rows_sum_to_one(small: Bundle) -> None:
    found = torch.stack([*attention_weights(to_module(small), torch.tensor([[5, 6, 7, 8]]))])
    assert torch.all(found.triu(1) == 0)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 1, 3, 4))
