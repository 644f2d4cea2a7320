"""The sampler in PyTorch gives the tokens of the sampler in JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bridge.sampler import (
    SamplingParams,
    check_settings,
    filter_probabilities,
    sample_tokens,
    threefry,
    uniform,
)
from valyrian_jax.generation import sampler as jax_sampler

sample_rows = jax.jit(jax.vmap(jax_sampler.sample_token, in_axes=(0, 0, None, None, None, None)))
SEEDS = [0, 1, 7, 2**31, 2**32 - 1, 123456789]


def test_uniform_numbers_equal_those_of_jax_bit_for_bit() -> None:
    jax_uniform = jax.jit(jax.vmap(jax.vmap(jax_sampler.uniform, (None, 0)), (0, None)))
    expected = np.asarray(jax_uniform(jnp.asarray(SEEDS, jnp.uint32), jnp.arange(2000)))
    numbers = np.asarray([[uniform(seed, i) for i in range(2000)] for seed in SEEDS])
    assert np.array_equal(numbers.astype(np.float32), expected)
    assert np.array_equal(numbers, expected.astype(np.float64))


def test_threefry_gives_its_published_numbers() -> None:
    # Known answers of Random123 for threefry2x32, 20 rounds (Salmon et al. 2011).
    ones = 0xFFFFFFFF
    assert threefry((0, 0), (0, 0)) == (0x6B200159, 0x99BA4EFE)
    assert threefry((ones, ones), (ones, ones)) == (0x1CB996FC, 0xBB002BE7)
    assert threefry((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3)) == (0xC4923A9C, 0x483DF7A0)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 50),
    st.sampled_from([0.0, 0.001, 0.5, 1.0, 2.0]),
    st.sampled_from([0, 1, 3, 40, 100]),
    st.sampled_from([1e-46, 1e-9, 0.3, 0.9, 1.0, 2.0]),
    st.booleans(),
)
def test_tokens_equal_those_of_jax(
    seed: int, index: int, temperature: float, top_k: int, top_p: float, ties: bool
) -> None:
    logits = np.random.default_rng(seed).normal(size=(2, 40)).astype(np.float32) * 3
    if ties:
        logits = np.round(logits)
    params = SamplingParams(temperature, top_k, top_p, 0.0, 1.0, 0, 0)
    row_seeds = [seed, (seed + 1) % 2**32]
    tokens = sample_tokens(torch.from_numpy(logits), index, params, row_seeds, None)
    seeds = jnp.asarray([seed, (seed + 1) % 2**32], jnp.uint32)
    expected = sample_rows(jnp.asarray(logits), seeds, index, temperature, top_k, top_p)
    assert tokens.tolist() == expected.tolist()


def test_filtered_probabilities_equal_those_of_jax() -> None:
    rng = np.random.default_rng(0)
    for top_k, top_p in ((0, 1.0), (5, 1.0), (0, 0.7), (9, 0.5), (0, 1e-6)):
        logits = rng.normal(size=(1, 200)).astype(np.float32) * 2
        expected = np.asarray(
            jax_sampler.filter_probabilities(jnp.asarray(logits[0]), 0.7, top_k, top_p)
        )
        filtered = filter_probabilities(torch.from_numpy(logits), 0.7, top_k, top_p)[0].numpy()
        assert np.array_equal(filtered > 0, expected > 0)
        assert np.abs(filtered - expected).max() < 1e-6


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ((-1.0, 0, 1.0, 0), "temperature"),
        ((0.0001, 0, 1.0, 0), "temperature"),
        ((float("nan"), 0, 1.0, 0), "temperature"),
        ((1.0, -1, 1.0, 0), "top_k"),
        ((1.0, 0, 0.0, 0), "top_p"),
        ((1.0, 0, float("nan"), 0), "top_p"),
        ((1.0, 0, 1.0, -1), "seed"),
        ((1.0, 0, 1.0, 2**32), "seed"),
    ],
)
def test_settings_out_of_range_are_rejected(
    settings: tuple[float, int, float, int], name: str
) -> None:
    with pytest.raises(ValueError, match=name):
        check_settings(SamplingParams(*settings[:3], 0.0, 1.0, 0, 0), [settings[3]])
