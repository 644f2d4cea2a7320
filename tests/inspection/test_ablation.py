"""Mean ablation of heads and MLPs, and the scores of heads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from valyrian_jax.api import Model, load
from valyrian_jax.bundle.shipped_model import SHIPPED_MODEL
from valyrian_jax.config import ModelConfig
from valyrian_jax.data.rows import Rows
from valyrian_jax.inspection.ablation import (
    Component,
    list_components,
    measure_log_probabilities,
    measure_means,
)
from valyrian_jax.inspection.head_scores import (
    measure_induction_scores,
    measure_previous_token_scores,
)
from valyrian_jax.inspection.rule_lens import measure_layer_scores
from valyrian_jax.model.activations import activations
from valyrian_jax.model.gpt import forward
from valyrian_jax.model.parameters import Params, init_params

CONFIG = ModelConfig(vocab_size=300, n_positions=16, n_embd=16, n_layer=2, n_head=2)


@pytest.fixture(scope="module")
def params() -> Params:
    return init_params(CONFIG, jax.random.key(0))


@pytest.fixture(scope="module")
def rows() -> Rows:
    tokens = np.random.default_rng(0).integers(300, size=(6, 17), dtype=np.int32)
    return Rows(tokens, np.arange(16) < np.arange(3, 9)[:, None])


def without_outputs(params: Params, layer: str, part: str, columns: slice) -> Params:
    """Return parameters with which a part of the layer adds nothing but its bias."""
    params = jax.tree.map(np.array, params)
    weight = params["transformer"]["h"][layer][part]["c_proj"]["weight"]
    weight[columns] = 0
    return params


def score(params: Params, rows: Rows) -> np.ndarray:
    params = jax.tree.map(jnp.asarray, params)
    logits = jax.nn.log_softmax(forward(params, jnp.asarray(rows.tokens[:, :-1]), CONFIG))
    picked = np.take_along_axis(np.asarray(logits), rows.tokens[:, 1:, None], -1)[..., 0]
    return np.where(rows.counted, picked, 0).sum(1)


def test_with_nothing_ablated_the_model_is_whole(params: Params, rows: Rows) -> None:
    means = measure_means(params, CONFIG, rows)
    scores = measure_log_probabilities(params, CONFIG, rows, means)
    np.testing.assert_allclose(scores, score(params, rows), rtol=1e-5)


@pytest.mark.parametrize("component", list_components(CONFIG), ids=lambda c: c.name)
def test_a_component_with_mean_zero_is_as_if_its_weights_were(
    params: Params, rows: Rows, component: Component
) -> None:
    zeros = jax.tree.map(jnp.zeros_like, measure_means(params, CONFIG, rows))
    scores = measure_log_probabilities(params, CONFIG, rows, zeros, component)
    layer, head = str(component.layer), component.head
    if head is None:
        ablated = without_outputs(params, layer, "mlp", slice(None))
        ablated["transformer"]["h"][layer]["mlp"]["c_proj"]["bias"][:] = 0
    else:
        ablated = without_outputs(params, layer, "attn", slice(8 * head, 8 * head + 8))
    np.testing.assert_allclose(scores, score(ablated, rows), rtol=1e-5)
    assert not np.allclose(scores, score(params, rows))


def test_the_mean_of_an_mlp_is_that_of_its_outputs(params: Params, rows: Rows) -> None:
    means = measure_means(params, CONFIG, rows)
    # Without its attention, the first block adds the MLP alone.
    quiet = without_outputs(params, "0", "attn", slice(None))
    quiet["transformer"]["h"]["0"]["attn"]["c_proj"]["bias"][:] = 0
    quiet = jax.tree.map(jnp.asarray, quiet)
    stages = activations(quiet, jnp.asarray(rows.tokens[:, :-1]), CONFIG)
    added = np.asarray(stages["h.0"] - stages["embedding"]).reshape(-1, 16).mean(0)
    quiet_means = measure_means(quiet, CONFIG, rows)
    np.testing.assert_allclose(quiet_means.mlps[0], added, atol=1e-6)
    assert means.heads.shape == means.mlps.shape == (2, 16)


def test_the_last_layer_reads_what_the_model_says(params: Params, rows: Rows) -> None:
    scores = measure_layer_scores(params, CONFIG, rows)
    assert scores.shape == (3, 6)
    np.testing.assert_allclose(scores[-1], score(params, rows), rtol=1e-5)
    assert not np.allclose(scores[0], scores[-1])


def test_scores_of_heads_are_shares(params: Params, rows: Rows) -> None:
    for scores in (
        measure_previous_token_scores(params, CONFIG, rows.tokens[:, :-1]),
        measure_induction_scores(params, CONFIG),
    ):
        assert scores.shape == (2, 2)
        assert ((scores >= 0) & (scores <= 1)).all()


def test_the_previous_token_score_is_the_mean_weight_of_the_token_before() -> None:
    model: Model = load(SHIPPED_MODEL)
    text = "Vala riñe urnes."
    weights = model.attention(text).weights
    ids = np.array([model.encode(text)], np.int32)
    scores = measure_previous_token_scores(model.params, model.config, ids)
    expected = np.diagonal(weights, -1, axis1=-2, axis2=-1).mean(-1)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
