"""The sampler contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from valyrian_jax.config import ModelConfig, SampleConfig
from valyrian_jax.generation import sampler
from valyrian_jax.generation.generate import decode, prefill, stream_tokens, window_start
from valyrian_jax.generation.sampler import filter_probabilities, sample_token, uniform
from valyrian_jax.model import gpt
from valyrian_jax.model.parameters import Params, init_params

CONFIG = ModelConfig(vocab_size=300, n_positions=16, n_embd=16, n_layer=2, n_head=2)


forward = jax.jit(lambda params, tokens: gpt.forward(params, tokens, CONFIG))
next_token = jax.jit(sample_token)


@pytest.fixture(scope="module")
def params() -> Params:
    # Five times the usual weights, so that the logits are far apart.
    return jax.tree.map(lambda x: 5 * x, init_params(CONFIG, jax.random.key(0)))


def keep_slowly(logits: np.ndarray, temperature: float, top_k: int, top_p: float) -> np.ndarray:
    """The contract, one token at a time."""
    scaled = np.float32(logits) / np.float32(temperature)
    order = sorted(range(len(scaled)), key=lambda i: (-scaled[i], i))
    allowed = order[: top_k or None]
    weights = {i: np.exp(np.float64(scaled[i]) - np.float64(scaled[order[0]])) for i in allowed}
    total = sum(weights.values())
    kept, before = np.zeros(len(scaled)), 0.0
    for i in allowed:
        if before < top_p or top_p >= 1:
            kept[i] = weights[i] / total
        before += weights[i] / total
    return kept


LOGITS = st.sampled_from([1, 2, 12]).flatmap(
    lambda n: st.lists(st.integers(-20, 20).map(lambda i: i / 4), min_size=n, max_size=n)
)
keep = jax.jit(filter_probabilities)


@given(
    LOGITS,
    st.sampled_from([0.3, 1.0, 2.0]),
    st.integers(0, 13),
    st.sampled_from([0.05, 0.31, 0.77, 0.93, 1.0]),
)
def test_kept_tokens_are_those_of_the_contract(
    logits: list[float], temperature: float, top_k: int, top_p: float
) -> None:
    expected = keep_slowly(np.array(logits), temperature, top_k, top_p)
    found = np.asarray(keep(jnp.array(logits), temperature, top_k, top_p))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_ties_are_kept_by_lower_id() -> None:
    kept = np.asarray(keep(jnp.zeros(4), 1.0, 0, 0.5))
    np.testing.assert_allclose(kept, [0.25, 0.25, 0, 0])
    kept = np.asarray(keep(jnp.zeros(4), 1.0, 3, 1.0))
    np.testing.assert_allclose(kept, [1 / 3, 1 / 3, 1 / 3, 0], rtol=1e-6)


def test_at_least_one_token_is_kept() -> None:
    assert np.count_nonzero(keep(jnp.array([0.0, 3.0, 1.0, 2.0]), 1.0, 0, 1e-9)) == 1


def test_the_draw_walks_in_id_order() -> None:
    kept = jnp.array([0.1, 0.0, 0.4, 0.3])  # total 0.8
    for u, expected in ((0.0, 0), (0.124, 0), (0.126, 2), (0.624, 2), (0.626, 3), (0.99999994, 3)):
        assert int(sampler.sample(kept, jnp.float32(u))) == expected, u


def test_a_zero_probability_is_never_drawn_however_sums_round() -> None:
    draw = jax.jit(jax.vmap(sampler.sample, in_axes=(0, None)))
    rng = np.random.default_rng(0)
    kept = rng.random((2000, 500)).astype(np.float32) ** 4
    kept[:, 0] = kept[:, -100:] = 0
    drawn = np.asarray(draw(jnp.asarray(kept), jnp.float32(1 - 2**-23)))
    assert (np.take_along_axis(kept, drawn[:, None], 1) > 0).all()


@pytest.mark.parametrize("seed", [0, 7, 2**31, 2**32 - 1])
def test_the_uniform_number_is_that_of_jax(seed: int) -> None:
    for index in (0, 1, 199):
        expected = jax.random.uniform(jax.random.fold_in(jax.random.key(seed), index))
        assert float(uniform(jnp.uint32(seed), index)) == float(expected)


def test_the_uniform_numbers_are_the_same_in_every_version() -> None:
    # Threefry is integer arithmetic: other numbers would be other texts.
    found = [
        float(uniform(jnp.uint32(seed), index))
        for seed, index in ((0, 0), (7, 1), (2**32 - 1, 199))
    ]
    assert [round(u * 2**23) for u in found] == [7065843, 5663431, 1986696]


def test_draws_follow_the_probabilities() -> None:
    logits = jnp.log(jnp.array([0.5, 0.2, 0.05, 0.25]))
    seeds = jnp.arange(20_000, dtype=jnp.uint32)
    drawn = jax.jit(jax.vmap(lambda s: sample_token(logits, s, 3, 1.0, 0, 0.9)))(seeds)
    shares = np.bincount(np.asarray(drawn), minlength=4) / 20_000
    np.testing.assert_allclose(shares, np.array([0.5, 0.2, 0, 0.25]) / 0.95, atol=0.012)


def test_temperature_0_is_the_most_probable_token_and_the_lowest_id_on_ties() -> None:
    assert int(sample_token(jnp.array([1.0, 5.0, 5.0, 0.0]), jnp.uint32(3), 0, 0.0, 0, 1.0)) == 1


def test_the_window_drops_halves() -> None:
    starts = [window_start(count, 8) for count in range(1, 22)]
    assert starts == [0] * 8 + [4] * 4 + [8] * 4 + [12] * 4 + [16]
    assert all(1 <= c - window_start(c, n) <= n for n in (2, 3, 7, 8) for c in range(1, 50))


@pytest.mark.parametrize("prompt_length", [1, 7, 16, 17, 41])
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(0.0, 0, 1.0), (1.0, 0, 0.9), (0.7, 20, 1.0)]
)
def test_generation_equals_reading_the_window_afresh(
    params: Params, prompt_length: int, temperature: float, top_k: int, top_p: float
) -> None:
    prompt = [(7 * i) % 300 for i in range(prompt_length)]
    sample = SampleConfig(
        temperature=temperature, top_k=top_k, top_p=top_p, seed=5, max_new_tokens=40
    )
    generated = [int(row[0]) for row in stream_tokens(params, CONFIG, prompt, sample)]
    history = list(prompt)
    for index in range(40):
        window = history[window_start(len(history), 16) :]
        padded = jnp.asarray(
            [window + [0] * (16 - len(window))], jnp.int32
        )  # what follows changes nothing before
        logits = forward(params, padded)[0, len(window) - 1]
        history.append(int(next_token(logits, jnp.uint32(5), index, temperature, top_k, top_p)))
    assert generated == history[prompt_length:]


def test_rows_are_generations_with_seeds_in_sequence(params: Params) -> None:
    sample = SampleConfig(temperature=1.0, top_p=1.0, seed=2**32 - 2, max_new_tokens=20)
    together = np.stack(list(stream_tokens(params, CONFIG, [1, 2], sample, rows=3)))
    for row, seed in enumerate([2**32 - 2, 2**32 - 1, 0]):
        single = SampleConfig(temperature=1.0, top_p=1.0, seed=seed, max_new_tokens=20)
        alone = np.stack(list(stream_tokens(params, CONFIG, [1, 2], single)))
        np.testing.assert_array_equal(together[:, row], alone[:, 0])
    assert len({tuple(column) for column in together.T.tolist()}) == 3


def test_compiled_programs_do_not_depend_on_prompt_or_settings(params: Params) -> None:
    def run(prompt: list[int], **settings: float) -> None:
        list(stream_tokens(params, CONFIG, prompt, SampleConfig(max_new_tokens=20, **settings)))

    run([1, 2, 3])
    before = prefill._cache_size(), decode._cache_size()
    run([1] * 30, temperature=0.5, top_p=0.3)
    run([5], temperature=0.0)
    assert (prefill._cache_size(), decode._cache_size()) == before
