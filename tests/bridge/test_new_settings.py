"""The sampler's settings, stop strings and uneven batches in PyTorch and TorchScript."""

import contextlib
import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from bridge import torchscript
from bridge.generator import Generator
from bridge.sampler import SamplingParams, sample_tokens
from bridge.streaming import stream
from bridge.text_generator import TextGenerator
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.text_generation import encode_prompt, generate_texts
from valyrian_jax.config import SampleConfig, config_from_tree
from valyrian_jax.errors import UserError
from valyrian_jax.generation import sampler as jax_sampler
from valyrian_jax.generation.generate import make_generator

PROMPTS = ["", "the dragon", "Ȳdra daor 🐉", "wolf " * 30, "they're"]
SETTINGS = [
    SampleConfig("", 50, 1.0, 0, 0.95, 0),
    SampleConfig("", 50, 1.2, 0, 1.0, 0, 0.05, 1.3, 20),
    SampleConfig("", 50, 0.0, 0, 1.0, 0, 0.0, 1.5, 50),
    SampleConfig("", 50, 1.0, 40, 0.9, 0, 0.02, 0.8, 3, ("e", "wolf")),
]


@pytest.mark.parametrize("sample", SETTINGS, ids=str)
def test_uneven_rows_give_the_text_that_each_gives_alone_and_that_jax_gives(
    small: Bundle, script: Any, sample: SampleConfig
) -> None:
    generator, seeds = Generator(small), [3, 2**32 - 1, 7, 7, 0]
    expected = generate_texts(make_generator(small), small.tokenizer, PROMPTS, seeds, sample)
    generate = lambda *args: stream(generator, *args)  # noqa: E731
    assert generate_texts(generate, small.tokenizer, PROMPTS, seeds, sample) == expected
    settings = [*vars(sample).values()][1:5]
    new = sample.min_p, sample.repetition_penalty, sample.min_new_tokens, list(sample.stop)
    assert script.generate_texts(PROMPTS, seeds, *settings, *new) == expected
    for prompt, seed, text in zip(PROMPTS, seeds, expected, strict=True):
        assert script.generate_text(prompt, *settings, seed, *new) == text
        ids = encode_prompt(small.tokenizer, prompt)
        alone = generate_texts(generate, small.tokenizer, [prompt], [seed], replace(sample))
        assert alone == [text]
        assert len(ids) > 0


def test_tokens_of_random_logits_equal_those_of_jax() -> None:
    sample_tokens_in_jax = jax.jit(jax_sampler.sample_tokens)
    rng = np.random.default_rng(0)
    for seed in range(60):
        logits = rng.normal(size=(2, 40)).astype(np.float32) * 3
        window = rng.integers(0, 40, (2, 12))
        settings = (
            float(rng.choice([0, 0.5, 1])),
            int(rng.choice([0, 5])),
            float(rng.choice([0.7, 1])),
            float(rng.choice([0, 0.1, 1])),
            float(rng.choice([0.5, 1, 1.3])),
            int(rng.choice([0, 5])),
            3,
        )
        in_window = np.zeros((2, 40), bool)
        np.put_along_axis(in_window, window, True, 1)
        params = jax_sampler.SamplingParams(jnp.array([seed, 9], jnp.uint32), *settings)
        expected = sample_tokens_in_jax(logits, params, seed % 8, in_window)
        tokens = sample_tokens(
            torch.from_numpy(logits),
            seed % 8,
            SamplingParams(*settings),
            [seed, 9],
            torch.from_numpy(window),
        )
        assert tokens.tolist() == np.asarray(expected).tolist()


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ((1.5, 1.0, 0, None), "min_p is out of range: expected 0 to 1, found 1.5"),
        ((0.0, 0.0, 0, None), "repetition_penalty is out of range"),
        ((0.0, 1.0, -1, None), "min_new_tokens is out of range"),
        ((0.0, 1.0, 0, ["a", ""]), "a stop string is empty"),
    ],
)
def test_a_file_refuses_settings_out_of_range(script: Any, new: Any, words: str) -> None:
    with pytest.raises(Exception, match=words):
        script.generate_text("a", 3, 1.0, 0, 1.0, 0, *new)


# A value in the range of every setting, and values around its ends, on both sides.
RANGES: dict[str, tuple[Any, list[Any]]] = {
    "temperature": (1.0, [-0.001, 0.0, 1e-9, 0.000999, 0.001, 1e308, math.inf, math.nan]),
    "top_k": (0, [-1, 0, 2**31 - 1, 2**31, 2**40]),
    "top_p": (1.0, [-1.0, 0.0, 5e-324, 1.0, 2.0, math.inf, math.nan]),
    "seed": (0, [-1, 0, 2**32 - 1, 2**32]),
    "min_p": (0.0, [-1e-9, 0.0, 1.0, 1.0001, math.inf, math.nan]),
    "repetition_penalty": (1.0, [0.0, 0.0009, 0.001, 1000.0, 1000.1, math.inf, math.nan]),
    "min_new_tokens": (0, [-1, 0, 2**31 - 1, 2**31, 2**40]),
    "max_new_tokens": (1, [-1, 0, 1, 3, 2**31, 2**40]),
}


@pytest.mark.parametrize("name", RANGES)
def test_a_file_takes_the_settings_that_the_configuration_takes(script: Any, name: str) -> None:
    assert RANGES.keys() == vars(SampleConfig()).keys() - {"prompt", "stop"}
    accepted = set()
    for value in RANGES[name][1]:
        settings = {key: first for key, (first, _) in RANGES.items()} | {name: value}
        try:
            config_from_tree({"sample": settings})
            is_wrong = False
        except UserError:
            is_wrong = True
        context = pytest.raises(Exception, match=f"{name} is out of range: expected")
        with context if is_wrong else contextlib.nullcontext():
            assert script.generate_text("a", **settings).startswith("a")
        accepted.add(not is_wrong)
    assert accepted == {False, True}


def test_a_window_must_have_the_rows_of_the_logits(script: Any) -> None:
    logits, settings = torch.zeros(2, 300), (0, 0.0, 0, 1.0, 1, 0.0, 1000.0, 0)
    logits[:, 7], logits[:, 0] = 1, 0.5
    assert script.sample(logits, *settings, torch.full((2, 3), 7)).tolist() == [0, 0]
    for shape in ((1, 3), (3, 3), (0, 3), (2,), (2, 1, 1)):
        with pytest.raises(Exception, match=r"window does not fit the logits: expected .* 2 rows"):
            script.sample(logits, *settings, torch.full(shape, 7))


def test_memory_follows_the_text_and_not_the_length_that_it_may_have(
    endless: Bundle,
) -> None:
    """Room for all tokens of these texts would be 4 TB."""
    generator, prompts, seeds = Generator(endless), ["the", "a wolf"] * 128, [*range(256)]
    script: Any = torchscript.compile_module(TextGenerator(endless))
    texts = [
        script.generate_texts(prompts, seeds, length, 1.0, 0, 1.0, stop=[" ", "e", "a", "o", "i"])
        for length in (500, 2**31 - 1)
    ]
    assert texts[0] == texts[1]
    sample = SampleConfig("", 2**31 - 1, 1.0, 0, 1.0, stop=(" ", "e", "a", "o", "i"))
    generate = lambda *args: stream(generator, *args)  # noqa: E731
    assert generate_texts(generate, endless.tokenizer, prompts, seeds, sample, 256) == texts[0]


def test_a_stop_string_is_found_in_the_new_bytes_only(script: Any) -> None:
    settings = (40, 1.0, 0, 1.0, 5)
    text = script.generate_text("the dragon", *settings)
    new = text.removeprefix("the dragon")
    for stop in (new[3:8], new[:1], new[-2:]):
        end = new.index(stop)
        stopped = script.generate_text("the dragon", *settings, 0.0, 1.0, 0, [stop])
        assert stopped == "the dragon" + new[:end]
    assert script.generate_text("the dragon", *settings, 0.0, 1.0, 0, ["on" + new[0]]) == text


def test_calls_of_0_1_and_the_defaults_work(script: Any) -> None:
    max_new_tokens, temperature, top_k, top_p, seed = script.defaults()[:5]
    text = script.generate_text("the", max_new_tokens, temperature, top_k, top_p, seed)
    assert script.generate_text("the", *script.defaults()) == text
    logits, _ = script.step(torch.tensor([[1, 2]]), script.new_cache(1))
    assert script.sample(logits, 0, 0.0, 0, 1.0, 0).item() == logits.argmax()


def test_a_file_gives_the_same_text_under_autocast(script: Any) -> None:
    settings = ("Ȳdra daor 🐉", 60, 1.0, 0, 0.9, 3)
    expected, tokens = script.generate_text(*settings), torch.arange(10)[None]
    logits = script(tokens)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            assert script.generate_text(*settings) == expected
            assert (script(tokens) - logits).abs().max() < 1e-4
