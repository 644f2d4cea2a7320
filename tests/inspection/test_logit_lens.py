"""The logit lens equals the hidden states of `transformers`, read by its own norm and head."""

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from tests.support.tiny import WORDS
from valyrian_jax.api import Model
from valyrian_jax.bundle.bundle import Bundle, save_bundle
from valyrian_jax.bundle.lens import make_lens
from valyrian_jax.bundle.names import parameter_shapes
from valyrian_jax.config import ModelConfig
from valyrian_jax.errors import UserError
from valyrian_jax.inspection.logit_lens import lens
from valyrian_jax.model.gpt import forward
from valyrian_jax.model.parameters import from_tensors, pad_tensors
from valyrian_jax.tokenizer import train_bpe
from valyrian_jax.tokenizer.display import token_label

CONFIG = ModelConfig(vocab_size=300, n_positions=16, n_embd=24, n_layer=2, n_head=3)
TOKENIZER = train_bpe(WORDS, CONFIG.vocab_size)
TOKENS = np.random.default_rng(1).integers(0, 300, (2, 16))


def make_bundle(**changes: Any) -> Bundle:
    """Make a bundle with weights so large that a change of any one shows."""
    config = dataclasses.replace(CONFIG, **changes)
    draw = np.random.default_rng(0)
    tensors = {
        name: (0.15 * draw.normal(size=shape) + ("ln_" in name)).astype(np.float32)
        for name, shape in parameter_shapes(config).items()
    }
    return Bundle(config, tensors, TOKENIZER)


def compute(bundle: Bundle) -> list[np.ndarray]:
    params = from_tensors(bundle.tensors)
    return [np.asarray(logits) for logits in lens(params, jnp.asarray(TOKENS), bundle.model)]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_every_layer_equals_that_of_transformers(
    tied: bool, activation: str, tmp_path: Path
) -> None:
    bundle = make_bundle(tie_word_embeddings=tied, activation=activation)
    save_bundle(bundle, tmp_path / "bundle")
    reference = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "bundle").eval()
    with torch.no_grad():
        states = reference(torch.tensor(TOKENS), output_hidden_states=True).hidden_states
        # transformers has applied the final norm to the last of them.
        normed = [*map(reference.transformer.ln_f, states[:-1]), states[-1]]
        expected = [reference.lm_head(x).numpy() for x in normed]
    actual = compute(bundle)
    assert len(actual) == len(expected) == 3
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * abs(theirs).max())
    assert abs(actual[0] - actual[1]).max() > 0.1


def test_the_last_layer_is_the_model() -> None:
    bundle = make_bundle()
    logits = forward(from_tensors(bundle.tensors), jnp.asarray(TOKENS), bundle.model)
    np.testing.assert_allclose(compute(bundle)[-1], logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_padding_is_never_predicted(tied: bool) -> None:
    bundle = make_bundle(tie_word_embeddings=tied)
    model = dataclasses.replace(bundle.model, vocab_multiple=64)
    padded = Bundle(model, pad_tensors(bundle.tensors, model), bundle.tokenizer)
    for actual, expected in zip(compute(padded), compute(bundle), strict=True):
        assert actual.shape[-1] == 320
        assert (actual[..., 300:] == -np.inf).all()
        np.testing.assert_allclose(actual[..., :300], expected, rtol=1e-6, atol=1e-6)


def test_the_best_predictions_come_first_and_ties_by_lower_id() -> None:
    draw = np.random.default_rng(2)
    layers = [draw.integers(-3, 4, (5, 9)).astype(np.float32) for _ in range(3)]
    result = make_lens(TOKENIZER, [1, 2, 3, 4, 5], layers, top=4)
    assert result.tokens == [token_label(TOKENIZER, i) for i in [1, 2, 3, 4, 5]]
    best = [[token_label(TOKENIZER, i) for i in row] for row in result.ids[..., 0]]
    assert result.predictions == best
    for logits, ids, probabilities in zip(layers, result.ids, result.probabilities, strict=True):
        np.testing.assert_array_equal(ids, np.argsort(-logits, axis=-1, kind="stable")[:, :4])
        softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        expected = np.take_along_axis(softmax, ids, axis=-1)
        np.testing.assert_allclose(probabilities, expected, rtol=1e-6)
    everything = make_lens(TOKENIZER, [0], [layers[0][:1]], top=99)
    assert everything.ids.shape == (1, 1, 9)
    assert everything.probabilities.sum() == pytest.approx(1)


def test_a_text_has_a_row_for_every_layer() -> None:
    bundle = make_bundle()
    result = Model(bundle).lens("a dragon", top=3)
    tokens = bundle.tokenizer.encode("a dragon")
    assert "".join(result.tokens) == "a␣dragon"
    assert result.ids.shape == result.probabilities.shape == (3, len(tokens), 3)
    logits = forward(from_tensors(bundle.tensors), jnp.asarray([tokens]), bundle.model)
    assert result.ids[-1, :, 0].tolist() == np.asarray(logits)[0].argmax(-1).tolist()
    assert Model(bundle).lens("").tokens == ["<|endoftext|>"]


def test_a_text_longer_than_the_context_or_weights_that_overflow_end_in_one_line() -> None:
    bundle = make_bundle()
    with pytest.raises(UserError, match="tokens, but the context of the model is 16; use a short"):
        Model(bundle).lens("dragons " * 20)
    for value in (np.nan, np.inf):
        wte = np.full_like(bundle.tensors["transformer.wte.weight"], value)
        tensors = bundle.tensors | {"transformer.wte.weight": wte}
        with pytest.raises(UserError, match="the logits are not finite"):
            Model(dataclasses.replace(bundle, tensors=tensors)).lens("a dragon")
