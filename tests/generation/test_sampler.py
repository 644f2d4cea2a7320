"""The sampler and the generation loop follow their definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from valyrian_jax.bundle.text_generation import seed_range, window_start
from valyrian_jax.config import ModelConfig, SampleConfig
from valyrian_jax.generation.generate import decode, prefill, stream_tokens
from valyrian_jax.generation.sampler import filter_probabilities, sample, sample_token, uniform
from valyrian_jax.model import gpt
from valyrian_jax.model.parameters import Params, init_params

CONFIG = ModelConfig(vocab_size=300, n_positions=16, n_embd=16, n_layer=2, n_head=2)

forward = jax.jit(lambda params, tokens: gpt.forward(params, tokens, CONFIG))
jitted_sample_token = jax.jit(sample_token)
jitted_filter = jax.jit(filter_probabilities)


@pytest.fixture(scope="module")
def params() -> Params:
    # Five times the usual weights give logits that are far apart.
    return jax.tree.map(lambda x: 5 * x, init_params(CONFIG, jax.random.key(0)))


def filter_slowly(logits: np.ndarray, temperature: float, top_k: int, top_p: float) -> np.ndarray:
    """Return the filtered probabilities, one token at a time as the definition says."""
    scaled = np.float32(logits) / np.float32(temperature)
    order = sorted(range(len(scaled)), key=lambda i: (-scaled[i], i))
    allowed = order[: top_k or None]
    weights = {i: np.exp(np.float64(scaled[i]) - np.float64(scaled[order[0]])) for i in allowed}
    total = sum(weights.values())
    probabilities, preceding = np.zeros(len(scaled)), 0.0
    for i in allowed:
        if preceding < top_p or top_p >= 1:
            probabilities[i] = weights[i] / total
        preceding += weights[i] / total
    return probabilities


LOGITS = st.sampled_from([1, 2, 12]).flatmap(
    lambda n: st.lists(st.integers(-20, 20).map(lambda i: i / 4), min_size=n, max_size=n)
)


@given(
    LOGITS,
    st.sampled_from([0.3, 1.0, 2.0]),
    st.integers(0, 13),
    st.sampled_from([0.05, 0.31, 0.77, 0.93, 1.0]),
)
def test_filtered_probabilities_follow_the_definition(
    logits: list[float], temperature: float, top_k: int, top_p: float
) -> None:
    expected = filter_slowly(np.array(logits), temperature, top_k, top_p)
    actual = np.asarray(jitted_filter(jnp.array(logits), temperature, top_k, top_p))
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_ties_are_kept_by_lower_id() -> None:
    nucleus = np.asarray(jitted_filter(jnp.zeros(4), 1.0, 0, 0.5))
    np.testing.assert_allclose(nucleus, [0.25, 0.25, 0, 0])
    top = np.asarray(jitted_filter(jnp.zeros(4), 1.0, 3, 1.0))
    np.testing.assert_allclose(top, [1 / 3, 1 / 3, 1 / 3, 0], rtol=1e-6)


def test_at_least_one_token_is_kept() -> None:
    logits = jnp.array([0.0, 3.0, 1.0, 2.0])
    assert np.count_nonzero(jitted_filter(logits, 1.0, 0, 1e-9)) == 1


def test_sampling_walks_in_id_order() -> None:
    probabilities = jnp.array([0.1, 0.0, 0.4, 0.3])  # total 0.8
    for u, expected in ((0.0, 0), (0.124, 0), (0.126, 2), (0.624, 2), (0.626, 3), (0.99999994, 3)):
        assert int(sample(probabilities, jnp.float32(u))) == expected, u


def test_rounding_never_samples_a_token_of_probability_0() -> None:
    sample_rows = jax.jit(jax.vmap(sample, in_axes=(0, None)))
    rng = np.random.default_rng(0)
    probabilities = rng.random((2000, 500)).astype(np.float32) ** 4
    probabilities[:, 0] = probabilities[:, -100:] = 0
    tokens = np.asarray(sample_rows(jnp.asarray(probabilities), jnp.float32(1 - 2**-23)))
    assert (np.take_along_axis(probabilities, tokens[:, None], 1) > 0).all()


@pytest.mark.parametrize("seed", [0, 7, 2**31, 2**32 - 1])
def test_uniform_numbers_equal_those_of_jax(seed: int) -> None:
    for index in (0, 1, 199):
        expected = jax.random.uniform(jax.random.fold_in(jax.random.key(seed), index))
        assert float(uniform(jnp.uint32(seed), index)) == float(expected)


def test_uniform_numbers_are_the_same_in_every_version() -> None:
    # Threefry is integer arithmetic. With other numbers, a seed would give another text.
    pairs = (0, 0), (7, 1), (2**32 - 1, 199)
    numbers = [float(uniform(jnp.uint32(seed), index)) for seed, index in pairs]
    assert [round(u * 2**23) for u in numbers] == [7065843, 5663431, 1986696]


def test_sampled_shares_follow_the_probabilities() -> None:
    logits = jnp.log(jnp.array([0.5, 0.2, 0.05, 0.25]))
    seeds = jnp.arange(20_000, dtype=jnp.uint32)
    sample_seeds = jax.jit(jax.vmap(lambda seed: sample_token(logits, seed, 3, 1.0, 0, 0.9)))
    shares = np.bincount(np.asarray(sample_seeds(seeds)), minlength=4) / 20_000
    np.testing.assert_allclose(shares, np.array([0.5, 0.2, 0, 0.25]) / 0.95, atol=0.012)


def test_temperature_0_gives_the_most_probable_token_and_the_lowest_id_on_ties() -> None:
    assert int(sample_token(jnp.array([1.0, 5.0, 5.0, 0.0]), jnp.uint32(3), 0, 0.0, 0, 1.0)) == 1


def test_a_full_window_drops_its_older_half() -> None:
    starts = [window_start(count, 8) for count in range(1, 22)]
    assert starts == [0] * 8 + [4] * 4 + [8] * 4 + [12] * 4 + [16]
    assert all(1 <= c - window_start(c, n) <= n for n in (2, 3, 7, 8) for c in range(1, 50))


@pytest.mark.parametrize("prompt_length", [1, 7, 16, 17, 41])
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(0.0, 0, 1.0), (1.0, 0, 0.9), (0.7, 20, 1.0)]
)
def test_generation_equals_reading_the_whole_window_for_every_token(
    params: Params, prompt_length: int, temperature: float, top_k: int, top_p: float
) -> None:
    prompt = [(7 * i) % 300 for i in range(prompt_length)]
    settings = SampleConfig(
        temperature=temperature, top_k=top_k, top_p=top_p, seed=5, max_new_tokens=40
    )
    generated = [int(row[0]) for row in stream_tokens(params, CONFIG, [prompt], [5], settings)]
    history = list(prompt)
    for index in range(40):
        window = history[window_start(len(history), 16) :]
        # The padding changes no logits before it.
        padded = jnp.asarray([window + [0] * (16 - len(window))], jnp.int32)
        logits = forward(params, padded)[0, len(window) - 1]
        token = jitted_sample_token(logits, jnp.uint32(5), index, temperature, top_k, top_p)
        history.append(int(token))
    assert generated == history[prompt_length:]


def test_row_r_is_a_generation_with_seed_plus_r(params: Params) -> None:
    settings = SampleConfig(temperature=1.0, top_p=1.0, max_new_tokens=20)
    seeds = seed_range(2**32 - 2, 3)
    assert seeds == [2**32 - 2, 2**32 - 1, 0]
    rows = np.stack(list(stream_tokens(params, CONFIG, [[1, 2]] * 3, seeds, settings)))
    for row, seed in enumerate(seeds):
        single = np.stack(list(stream_tokens(params, CONFIG, [[1, 2]], [seed], settings)))
        np.testing.assert_array_equal(rows[:, row], single[:, 0])
    assert len({tuple(row) for row in rows.T.tolist()}) == 3


def test_prompts_and_settings_share_compiled_programs(params: Params) -> None:
    def generate(prompt: list[int], **settings: float) -> None:
        sample = SampleConfig(max_new_tokens=20, **settings)
        list(stream_tokens(params, CONFIG, [prompt], [0], sample))

    generate([1, 2, 3])
    cache_sizes = prefill._cache_size(), decode._cache_size()
    generate([1] * 30, temperature=0.5, top_p=0.3)
    generate([5], temperature=0.0)
    assert (prefill._cache_size(), decode._cache_size()) == cache_sizes


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_give_no_token(temperature: float) -> None:
    logits = jnp.array([-jnp.inf, 2.0, 1.0])  # as those of padding are
    arguments = jnp.uint32(0), 0, temperature, 0, 1.0
    assert jitted_sample_token(logits, *arguments) in (1, 2)
    for values in ([jnp.nan, 2.0, 1.0], [0.0, jnp.inf, 1.0], [-jnp.inf] * 3):
        assert jitted_sample_token(jnp.array(values), *arguments) == -1
