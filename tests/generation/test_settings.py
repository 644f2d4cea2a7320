"""Min-p, the repetition penalty and min_new_tokens are those of `transformers`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
)

from valyrian_jax.bundle.text_generation import window_start
from valyrian_jax.config import ModelConfig, SampleConfig
from valyrian_jax.generation.generate import stream_tokens
from valyrian_jax.generation.sampler import (
    SamplingParams,
    filter_probabilities,
    forbid_end_of_text,
    penalize,
    sample_tokens,
)
from valyrian_jax.model import gpt
from valyrian_jax.model.parameters import Params, init_params

CONFIG = ModelConfig(vocab_size=300, n_positions=16, n_embd=16, n_layer=2, n_head=2)
END = 299
V = 12
LOGITS = st.lists(st.floats(-8, 8, width=32), min_size=V, max_size=V)

jitted_filter = jax.jit(filter_probabilities)
jitted_penalize = jax.jit(penalize)
jitted_sample = jax.jit(sample_tokens)
forward = jax.jit(lambda params, tokens: gpt.forward(params, tokens, CONFIG))


@pytest.fixture(scope="module")
def params() -> Params:
    return jax.tree.map(lambda x: 5 * x, init_params(CONFIG, jax.random.key(0)))


@given(LOGITS, st.sampled_from([0.0, 0.02, 0.3, 0.7, 1.0]), st.sampled_from([0.5, 1.0, 3.0]))
def test_min_p_keeps_the_tokens_of_transformers(
    logits: list[float], min_p: float, temperature: float
) -> None:
    scaled = torch.tensor([logits]) / temperature
    allowed = MinPLogitsWarper(min_p)(torch.empty(1, 0), scaled) if min_p else scaled
    shares = scaled.softmax(-1)[0].double()
    is_clear = (shares / shares.max() - min_p).abs() > 1e-6  # neither side of the limit by rounding
    expected = torch.where(allowed[0].isfinite(), shares, 0.0).numpy()
    actual = np.asarray(jitted_filter(jnp.array(logits), temperature, 0, 1.0, min_p))
    np.testing.assert_allclose(actual[is_clear], expected[is_clear], atol=1e-6)
    assert actual[np.argmax(logits)] > 0


@given(LOGITS, st.sampled_from([0.1, 0.6, 1.0]), st.integers(0, V), st.sampled_from([0.3, 0.9]))
def test_min_p_and_the_nucleus_keep_what_both_keep(
    logits: list[float], min_p: float, top_k: int, top_p: float
) -> None:
    def is_kept(top_p: float, min_p: float) -> np.ndarray:
        return np.asarray(jitted_filter(jnp.array(logits), 1.0, top_k, top_p, min_p)) > 0

    both = is_kept(top_p, min_p)
    np.testing.assert_array_equal(both, is_kept(top_p, 0.0) & is_kept(1.0, min_p))
    assert both.any()


def test_min_p_1_keeps_the_most_probable_tokens_and_ties() -> None:
    kept = np.asarray(jitted_filter(jnp.array([1.0, 3.0, 3.0, 2.0]), 0.7, 0, 1.0, 1.0)) > 0
    assert kept.tolist() == [False, True, True, False]


@given(LOGITS, st.sampled_from([0.25, 0.9, 1.0, 1.3, 8.0]), st.sets(st.integers(0, V - 1)))
def test_the_repetition_penalty_is_that_of_transformers(
    logits: list[float], penalty: float, window: set[int]
) -> None:
    ids = torch.tensor([sorted(window) * 2], dtype=torch.int64)  # A token counts once.
    expected = RepetitionPenaltyLogitsProcessor(penalty)(ids, torch.tensor([logits]))
    occurs = jnp.array([[token in window for token in range(V)]])
    actual = jitted_penalize(jnp.array([logits]), occurs, penalty)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


@given(LOGITS, st.integers(0, 6), st.integers(0, 6))
def test_the_end_of_text_is_forbidden_as_in_transformers(
    logits: list[float], minimum: int, index: int
) -> None:
    processor = MinNewTokensLengthLogitsProcessor(2, minimum, 5, device="cpu")
    expected = processor(torch.zeros(1, 2 + index, dtype=torch.int64), torch.tensor([logits]))
    actual = forbid_end_of_text(jnp.array([logits]), 5, index < minimum)
    np.testing.assert_array_equal(actual, expected)


@given(LOGITS, st.integers(0, 2**32 - 1), st.sets(st.integers(0, V - 1)))
def test_settings_that_are_off_change_no_token(
    logits: list[float], seed: int, window: set[int]
) -> None:
    seeds, occurs = jnp.array([seed], jnp.uint32), jnp.array([[i in window for i in range(V)]])
    old = SamplingParams(seeds, 0.9, 0, 0.9)
    off = old._replace(min_p=0.0, repetition_penalty=1.0, min_new_tokens=3, end_of_text=-1)
    for index in (0, 5):
        none = jitted_sample(jnp.array([logits]), old, index, jnp.zeros((1, V), bool))
        assert jitted_sample(jnp.array([logits]), off, index, occurs) == none


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_settings_do_not_hide_logits_that_are_not_finite(temperature: float) -> None:
    params = SamplingParams(
        jnp.zeros(1, jnp.uint32), temperature, 0, 1.0, 0.5, 1.5, 9, end_of_text=0
    )
    for value in (jnp.nan, jnp.inf):
        logits = jnp.array([[value, 1.0, -1.0]])
        assert jitted_sample(logits, params, 0, jnp.ones((1, 3), bool)) == -1


@pytest.mark.parametrize("length", [1, 13, 16, 40])
def test_greedy_texts_are_those_of_transformers_processors(params: Params, length: int) -> None:
    prompt, minimum = [(7 * i) % 300 for i in range(length)], 25
    sample = SampleConfig(
        max_new_tokens=40, temperature=0.0, repetition_penalty=1.4, min_new_tokens=minimum
    )
    rows = stream_tokens(params, CONFIG, [prompt], [0], sample, end_of_text=END)
    penalty = RepetitionPenaltyLogitsProcessor(1.4)
    history = list(prompt)
    for index in range(40):
        window = history[window_start(len(history), 16) :]
        padded = jnp.asarray([window + [0] * (16 - len(window))], jnp.int32)
        logits = np.array(forward(params, padded)[0, len(window) - 1])
        if index < minimum:
            logits[END] = -np.inf
        scores = penalty(torch.tensor([window]), torch.tensor(logits)[None])
        history.append(int(scores[0].argmax()))
    assert [int(row[0]) for row in rows] == history[length:]


def test_min_new_tokens_needs_the_end_of_text(params: Params) -> None:
    sample = SampleConfig(min_new_tokens=1)
    with pytest.raises(ValueError, match="end_of_text"):
        next(stream_tokens(params, CONFIG, [[1]], [0], sample))


SETTINGS = [
    SampleConfig(max_new_tokens=50, temperature=1.0, top_p=1.0),
    SampleConfig(max_new_tokens=50, temperature=0.0, repetition_penalty=1.2),
    SampleConfig(max_new_tokens=50, min_p=0.1, repetition_penalty=0.8, min_new_tokens=30),
]


@pytest.mark.parametrize("sample", SETTINGS, ids=["plain", "greedy", "every setting"])
@pytest.mark.parametrize("prompt_lengths", [(1, 2, 3), (5, 16, 17, 40), (100, 1), (9, 25, 41)])
def test_rows_of_different_lengths_give_what_each_gives_alone(
    params: Params, sample: SampleConfig, prompt_lengths: tuple[int, ...]
) -> None:
    prompts = [[(11 * i + n) % 300 for i in range(n)] for n in prompt_lengths]
    seeds = [2**32 - 1 - 7 * row for row in range(len(prompts))]
    rows = np.stack([*stream_tokens(params, CONFIG, prompts, seeds, sample, END)], axis=1)
    for row, prompt, seed in zip(rows, prompts, seeds, strict=True):
        alone = stream_tokens(params, CONFIG, [prompt], [seed], sample, END)
        assert row.tolist() == [int(token[0]) for token in alone]


def test_a_prompt_needs_a_token_and_a_seed(params: Params) -> None:
    for prompts, seeds in (([], []), ([[1], []], [0, 1]), ([[1]], [0, 1])):
        with pytest.raises(ValueError, match="expected"):
            next(stream_tokens(params, CONFIG, prompts, seeds, SampleConfig()))
