"""The update rules equal PyTorch's where it has them, and decay the right parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from tests.support.runs import OPTIMIZERS
from valyrian_jax.config import ModelConfig, OptimConfig
from valyrian_jax.model.parameters import init_params, to_tensors
from valyrian_jax.training.muon import orthogonalize
from valyrian_jax.training.optimizer import make_optimizer, make_schedule

MODEL = ModelConfig(vocab_size=300, n_positions=8, n_embd=16, n_layer=1, n_head=2)
PARAMS = init_params(MODEL, jax.random.key(0))


def random_gradients(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), PARAMS)


@pytest.mark.parametrize(
    ("name", "torch_class"), [("adamw", torch.optim.AdamW), ("adam_l2", torch.optim.Adam)]
)
def test_updates_equal_those_of_torch(name: Any, torch_class: Any) -> None:
    config = OptimConfig(
        name, lr=1e-2, min_lr_ratio=0.1, warmup=0.25, weight_decay=0.1, nesterov=False
    )
    optimizer, rate = make_optimizer(config, 8), make_schedule(config, 8)
    update = jax.jit(optimizer.update)
    tensors = {k: torch.nn.Parameter(torch.tensor(v)) for k, v in to_tensors(PARAMS).items()}
    not_decayed = [p for k, p in tensors.items() if k.endswith("bias") or ".ln_" in k]
    decayed = [p for k, p in tensors.items() if not (k.endswith("bias") or ".ln_" in k)]
    groups = [
        {"params": decayed, "weight_decay": 0.1},
        {"params": not_decayed, "weight_decay": 0.0},
    ]
    torch_optimizer = torch_class(groups, lr=1.0, betas=(config.beta1, config.beta2))
    params, state = PARAMS, optimizer.init(PARAMS)
    for step in range(8):
        gradients = random_gradients(step)
        updates, state = update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        for key, gradient in to_tensors(gradients).items():
            tensors[key].grad = torch.tensor(gradient)
        torch.nn.utils.clip_grad_norm_(tensors.values(), 1.0)
        for group in torch_optimizer.param_groups:
            group["lr"] = float(rate(step))
        torch_optimizer.step()
    for key, tensor in to_tensors(params).items():
        np.testing.assert_allclose(tensor, tensors[key].detach(), atol=2e-5, err_msg=key)


def test_nesterov_momentum_follows_dozat() -> None:
    """Compare with the update of Dozat 2016, written out; torch's NAdam varies its momentum."""
    config = OptimConfig(lr=1e-2, warmup=0.25, weight_decay=0.0, clip_norm=1e9)
    optimizer, rate = make_optimizer(config, 8), make_schedule(config, 8)
    b1, b2 = config.beta1, config.beta2
    update = jax.jit(optimizer.update)
    state, m, v, name = optimizer.init(PARAMS), 0.0, 0.0, "lm_head.weight"
    for t in range(1, 6):
        gradients = random_gradients(t)
        updates, state = update(gradients, state, PARAMS)
        g = to_tensors(gradients)[name].astype(np.float64)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        momentum = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        expected = -rate(t - 1) * momentum / (np.sqrt(v / (1 - b2**t)) + 1e-8)
        np.testing.assert_allclose(to_tensors(updates)[name], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_biases_and_norms_are_never_decayed(name: Any) -> None:
    # Without a gradient, only the decay changes a parameter.
    config = OptimConfig(name=name, weight_decay=0.5)
    optimizer = make_optimizer(config, 10)
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    updates, _ = jax.jit(optimizer.update)(
        jax.tree.map(jnp.zeros_like, ones), optimizer.init(ones), ones
    )
    for key, update in to_tensors(updates).items():
        assert update.any() == (not key.endswith("bias") and ".ln_" not in key), key


def test_muon_equalises_the_singular_values_of_block_matrices() -> None:
    def draw_uneven_matrix(array: jax.Array) -> jax.Array:
        if array.ndim < 2:
            return array
        u, _, v = np.linalg.svd(rng.normal(size=array.shape), full_matrices=False)
        return jnp.asarray((u * np.geomspace(1.0, 0.05, len(v))) @ v, jnp.float32)

    rng = np.random.default_rng(0)
    gradients = jax.tree.map(draw_uneven_matrix, PARAMS)
    optimizer = make_optimizer(OptimConfig(name="muon", lr=1e-2, weight_decay=0.0, warmup=0.0), 10)
    updates, _ = jax.jit(optimizer.update)(gradients, optimizer.init(PARAMS), PARAMS)
    for key, update in to_tensors(updates).items():
        if ".h." in key and update.ndim == 2:
            values = np.linalg.svd(update, compute_uv=False)
            assert values.max() / values.min() < 2, key
            assert np.sqrt((update**2).mean()) == pytest.approx(0.2 * 1e-2, rel=0.3), key
            assert (update * to_tensors(gradients)[key]).sum() < 0, key  # It descends.


@pytest.mark.parametrize("shape", [(16, 16), (16, 64)])
def test_orthogonalisation_through_the_gram_matrix_equals_that_of_optax(shape: Any) -> None:
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    axes = [optax.contrib.MuonDimensionNumbers()]
    muon = optax.contrib.scale_by_muon(
        ns_steps=3, beta=0.0, nesterov=False, weight_dimension_numbers=axes
    )
    [expected], _ = muon.update([matrix], muon.init([matrix]))
    np.testing.assert_allclose(orthogonalize(matrix), expected, atol=1e-5)


def test_the_schedule_rises_to_lr_then_falls_to_its_floor() -> None:
    rate = make_schedule(OptimConfig(lr=1.0, min_lr_ratio=0.1, warmup=0.1), 100)
    rates = np.array([float(rate(step)) for step in range(120)])
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10, rtol=1e-6)
    assert rates[10] == pytest.approx(1.0)
    assert (np.diff(rates[10:100]) < 0).all()
    np.testing.assert_allclose(rates[99:], 0.1, rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_schedule_of_a_very_short_run_is_finite(steps: int) -> None:
    rate = make_schedule(OptimConfig(), steps)
    assert all(0 < float(rate(step)) < 1.001 * OptimConfig().lr for step in range(steps))
