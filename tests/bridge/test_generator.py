"""Generation in PyTorch and TorchScript gives the tokens of JAX."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
import torch

from bridge.generator import Generator
from bridge.streaming import stream
from bridge.torchscript import EXAMPLE_SETTINGS
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.text_generation import (
    encode_prompt,
    generate_texts,
    seed_range,
    window_start,
)
from valyrian_jax.config import SampleConfig
from valyrian_jax.generation.generate import make_generator, stream_tokens
from valyrian_jax.model.parameters import from_tensors

PROMPTS = [[1], list(range(5, 28)), list(range(24)), list(range(25)), list(range(100, 180))]


@pytest.fixture(scope="module")
def generator(small: Bundle) -> Generator:
    return Generator(small)


@pytest.mark.parametrize("settings", EXAMPLE_SETTINGS, ids=str)
def test_tokens_equal_those_of_jax_past_the_context_and_in_rows(
    small: Bundle, generator: Generator, script: Any, settings: tuple[Any, ...]
) -> None:
    params = jax.tree.map(jax.numpy.asarray, from_tensors(small.tensors))
    sample, end = SampleConfig("", 40, *settings), small.tokenizer.end_of_text
    for prompt in PROMPTS:
        rows = [prompt] * 3, seed_range(sample.seed, 3), sample
        expected = np.stack(list(stream_tokens(params, small.model, *rows, end)), axis=1)
        streamed = np.stack(list(stream(generator, *rows)), axis=1)
        assert np.array_equal(streamed, expected)
        for module in (generator, script):
            out = module.generate(torch.tensor([prompt] * 3), 40, *settings)
            assert np.array_equal(out[:, len(prompt) :].numpy(), expected)
            assert out[:, : len(prompt)].tolist() == [prompt] * 3


def test_a_row_gives_the_same_tokens_alone_and_in_a_batch(generator: Generator) -> None:
    rows = torch.tensor([[1, 2, 3], [4, 5, 6]])
    both = generator.generate(rows, 40, 0.9, 0, 0.9, 5)
    assert torch.equal(both[:1], generator.generate(rows[:1], 40, 0.9, 0, 0.9, 5))
    assert torch.equal(both[1:], generator.generate(rows[1:], 40, 0.9, 0, 0.9, 6))


def test_a_prompt_gives_the_same_logits_in_one_step_and_in_several(generator: Generator) -> None:
    tokens = torch.arange(60)[None]
    expected, _ = generator.step(tokens, generator.new_cache(1))
    for ends in ([60], [1, 60], [24, 25, 60], [20, 36, 37, 60]):
        cache = generator.new_cache(1)
        for end in ends:
            logits, cache = generator.step(tokens[:, :end], cache)
        assert (logits - expected).abs().max() < 1e-4
    with pytest.raises(ValueError, match="no tokens to read"):
        generator.step(tokens, cache)


@pytest.mark.parametrize("lengths", [(1, 5, 23, 24, 25, 60, 3, 3), (7,) * 8], ids=str)
@pytest.mark.parametrize("runtime", ["torch", "jax"])
def test_rows_that_are_still_needed_give_the_same_tokens_when_others_are_dropped(
    small: Bundle, generator: Generator, lengths: tuple[int, ...], runtime: str
) -> None:
    generate = make_generator(small) if runtime == "jax" else partial(stream, generator)
    sample = SampleConfig("", 60, 1.0, 0, 0.95)
    prompts = [[(row + 3 * i) % 250 for i in range(n)] for row, n in enumerate(lengths)]
    seeds = seed_range(4, len(prompts))
    expected = np.stack([*generate(prompts, seeds, sample)])
    columns, needed = generate(prompts, seeds, sample), list(range(len(prompts)))
    column = next(columns)
    for index in range(60):
        assert column[needed].tolist() == expected[index, needed].tolist()
        if index % 9 == 8 and len(needed) > 1:
            needed = needed[1:]
        if index < 59:
            column = columns.send(needed)
    with pytest.raises(StopIteration):
        columns.send(needed)


def test_many_texts_that_end_at_different_tokens_are_those_of_each_alone(script: Any) -> None:
    prompts = ["", " the", "\n\n dragon's", "  ", "they're\n", "'s"] * 2
    seeds, settings = seed_range(0, len(prompts)), (70, 1.0, 0, 1.0)
    for stop in ([], ["e", "th"]):
        together = script.generate_texts(prompts, seeds, *settings, stop=stop)
        rows = zip(prompts, seeds, strict=True)
        alone = [script.generate_text(text, *settings, seed, stop=stop) for text, seed in rows]
        assert together == alone
        assert len({*map(len, alone)}) > 5


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_window_starts_in_a_file_where_it_does_in_python() -> None:
    compiled = torch.jit.script(window_start)
    for n_positions in (2, 3, 24, 64):
        starts = [compiled(count, n_positions) for count in range(1, 300)]
        assert starts == [window_start(count, n_positions) for count in range(1, 300)]


def test_texts_equal_those_of_jax_and_stop_at_the_end_of_the_document(
    small: Bundle, script: Any
) -> None:
    stream_jax = make_generator(small)
    tokenizer, ended = small.tokenizer, 0
    prompts = ["", "the dragon", "Ȳdra daor 🐉 e\u0301", "don't\n\n  they?", "x" * 70] * 2
    for seed, prompt in enumerate(prompts):
        sample = SampleConfig(prompt, 70, 1.0, 0, 1.0, seed)
        expected = generate_texts(stream_jax, tokenizer, [prompt], [seed], sample)[0]
        assert script.generate_text(prompt, 70, 1.0, 0, 1.0, seed) == expected
        start = encode_prompt(tokenizer, prompt)
        ids = [int(row[0]) for row in stream_jax([start], [seed], sample)]
        ended += tokenizer.end_of_text in ids
    assert ended > 0
