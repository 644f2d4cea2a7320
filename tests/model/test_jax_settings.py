"""Settings of JAX that callers change neither change results nor are changed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from tests.support.ambient import HOSTILE_JAX_SETTINGS, set_jax_settings
from valyrian_jax.config import ModelConfig, SampleConfig
from valyrian_jax.generation.generate import stream_tokens
from valyrian_jax.inspection.logit_lens import lens
from valyrian_jax.model.activations import attention_weights
from valyrian_jax.model.gpt import forward
from valyrian_jax.model.jax_settings import make_key
from valyrian_jax.model.parameters import from_tensors, init_params, to_tensors

CONFIG = ModelConfig(vocab_size=300, n_positions=16, n_embd=16, n_layer=2, n_head=2)
SAMPLE = SampleConfig("", 40, 1.0, 5, 0.9, 3)
TOKENS = np.arange(16, dtype=np.int32)[None]
every_setting = pytest.mark.parametrize(
    "settings",
    [{name: value} for name, value in HOSTILE_JAX_SETTINGS.items()] + [HOSTILE_JAX_SETTINGS],
    ids=lambda settings: next(iter(settings)) if len(settings) == 1 else "all",
)


def compute() -> dict[str, Any]:
    """Return weights, tokens, attention and lens of a small random model."""
    params = init_params(CONFIG, make_key(7))
    tensors = {name: 5 * tensor for name, tensor in to_tensors(params).items()}
    large = from_tensors(tensors)
    return {
        **tensors,
        "tokens": np.stack([*stream_tokens(large, CONFIG, [[1, 2]] * 2, [3, 4], SAMPLE)]),
        "attention": np.asarray(attention_weights(large, TOKENS, CONFIG)),
        "lens": np.stack([*lens(large, TOKENS, CONFIG)]),
    }


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    return compute()


@every_setting
def test_settings_of_the_caller_change_nothing(
    settings: dict[str, Any], expected: dict[str, Any]
) -> None:
    with set_jax_settings(settings):
        actual = compute()
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype, name
        np.testing.assert_array_equal(actual[name], array)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
def test_the_mesh_of_the_caller_changes_nothing(kind: AxisType, expected: dict[str, Any]) -> None:
    with jax.set_mesh(jax.make_mesh((1,), ("x",), (kind,))):
        np.testing.assert_array_equal(compute()["tokens"], expected["tokens"])


def test_the_code_of_the_caller_runs_under_its_own_settings() -> None:
    params = init_params(CONFIG, make_key(0))
    with jax.enable_x64(True):
        for _ in stream_tokens(params, CONFIG, [[1]], [3], SAMPLE):
            assert jnp.zeros(()).dtype == jnp.float64


def test_a_caller_can_trace_the_model_under_its_own_settings() -> None:
    tensors = to_tensors(init_params(CONFIG, make_key(0)))
    tokens, compute_logits = jnp.asarray(TOKENS), jax.jit(forward, static_argnames="config")
    expected = np.asarray(compute_logits(from_tensors(tensors), tokens, CONFIG))
    with set_jax_settings(HOSTILE_JAX_SETTINGS | {"jax_disable_jit": False}):
        for dtype, tolerance in ((np.float32, 0.0), (np.float64, 1e-6)):
            params = from_tensors({name: dtype(tensor) for name, tensor in tensors.items()})
            logits = compute_logits(params, tokens, CONFIG)
            assert logits.dtype == dtype
            np.testing.assert_allclose(logits, expected, rtol=0, atol=tolerance)


def test_keys_equal_those_of_jax() -> None:
    for seed in (0, 1, 2**31, 2**32 - 1):
        expected = jax.random.key_data(jax.random.key(np.uint32(seed), impl="threefry2x32"))
        np.testing.assert_array_equal(jax.random.key_data(make_key(seed)), expected)
