"""`verify` accepts another token only where rounding explains it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bridge import parity, torchscript
from bridge.generator import Generator
from bridge.parity_draws import Draw, can_draw, explain_difference, least_change
from bridge.parity_plan import Plan
from bridge.parity_report import make_report, print_report
from bridge.parity_runtimes import load_jax_model
from bridge.sampler import uniform
from valyrian_jax.bundle.bundle import Bundle, save_bundle
from valyrian_jax.config import SampleConfig
from valyrian_jax.generation.generate import make_generator

TOLERANCE = 1e-5
PLAN = Plan(("float32",), 4, 24, 4, 36, ())
SETTINGS = [
    {"temperature": 0.0},
    {"temperature": 1.0},
    {"temperature": 0.8, "top_p": 0.95},
    {"temperature": 1.3, "top_k": 7},
    {"temperature": 0.7, "top_k": 9, "top_p": 0.6},
    {"temperature": 1.0, "min_p": 0.2},
    {"temperature": 1.0, "min_p": 0.1, "top_p": 0.7, "top_k": 12},
    {"temperature": 0.9, "repetition_penalty": 1.4, "min_new_tokens": 5, "top_p": 0.9},
    {"temperature": 0.0, "repetition_penalty": 0.7, "min_new_tokens": 5},
]


def draw_from(logits: np.ndarray, window: list[int], index: int, sample: SampleConfig) -> int:
    """Draw in float64, by the sampler's definition and apart from every runtime."""
    logits = logits.copy()
    if index < sample.min_new_tokens:
        logits[-1] = -np.inf
    for token in set(window):
        r = sample.repetition_penalty
        logits[token] = logits[token] / r if logits[token] > 0 else logits[token] * r
    order = np.argsort(-logits, kind="stable")
    if sample.temperature == 0:
        return int(order[0])
    order = order[: sample.top_k or None]
    weights = np.exp((logits[order] - logits[order[0]]) / sample.temperature)
    preceding = (np.cumsum(weights) - weights) / weights.sum()
    kept = order[(preceding < sample.top_p) & (weights >= sample.min_p)]
    kept.sort()
    running = np.cumsum(np.exp((logits[kept] - logits[order[0]]) / sample.temperature))
    u = uniform(sample.seed, index)
    return int(kept[np.searchsorted(running, u * running[-1], side="right")])


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_token_drawn_from_changed_logits_needs_no_larger_change(
    settings: dict[str, float],
) -> None:
    rng = np.random.default_rng(0)
    largest, others = 0.2, 0
    for index in range(100):
        sample = SampleConfig(**settings, seed=index)  # type: ignore[arg-type]
        logits, window = rng.normal(size=30), rng.integers(30, size=8).tolist()
        draw = Draw(logits, window, index % 10, sample, end_of_text=29)
        token = draw_from(logits, window, draw.number, sample)
        assert least_change(draw, token, 0.0, 1.0) == 0
        noise = rng.uniform(-largest, largest, 30)
        other = draw_from(logits + noise, window, draw.number, sample)
        assert can_draw(draw, other, largest, 0.0)
        others += other != token
    assert others > 5


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_least_change_is_enough_and_no_smaller_one_is(temperature: float) -> None:
    rng = np.random.default_rng(1)
    for index in range(50):
        sample = SampleConfig(temperature=temperature, top_p=1.0, seed=7)
        logits = rng.uniform(-0.9, 0.9, 12)  # so that the change is not relative
        draw = Draw(logits, [0], index, sample, 11)
        token = int(rng.integers(12))
        change = least_change(draw, token, 0.0, 20.0)
        steps = [
            sign * np.where(np.arange(12) < token + i, -1, 1) for i in (0, 1) for sign in (1, -1)
        ]
        drawn = [
            {draw_from(logits + size * step, [], index, sample) for step in steps}
            for size in (change - 1e-4, change + 1e-4)
        ]
        if change == 0:
            assert draw_from(logits, [], index, sample) == token
        else:
            assert change < 20
            assert token not in drawn[0]
            assert token in drawn[1]


def test_a_number_at_a_boundary_explains_its_two_tokens_only() -> None:
    sample = SampleConfig(temperature=0.8, top_p=1.0, seed=3)
    u = uniform(3, 4)
    logits = np.full(10, -1000.0)
    logits[[2, 6]] = 0.8 * np.log([u, 1 - u])
    draw = Draw(logits, [0], 4, sample, 9)
    for token in (2, 6):
        assert least_change(draw, token, 0.0, TOLERANCE) < 1e-9
    logits[2] += 1e-6
    assert least_change(draw, 2, 0.0, TOLERANCE) == 0
    assert 1e-10 < least_change(draw, 6, 0.0, TOLERANCE) < 1e-6
    for token in (1, 3, 9):
        assert least_change(draw, token, 0.0, TOLERANCE) == float("inf")
    logits[2] += 0.1
    assert least_change(draw, 6, 0.0, TOLERANCE) == float("inf")


@pytest.mark.parametrize("settings", [{"top_p": 0.85}, {"top_k": 3}, {"min_p": 0.2}], ids=str)
def test_the_edge_of_a_filter_explains_the_tokens_on_both_sides(
    settings: dict[str, float],
) -> None:
    step = np.array([1e-7, 0, 0, 0, 0])
    logits = np.log([0.1, 0.5, 0.3, 0.1, 1e-9])  # Tokens 0 and 3 are at the edge.
    others = 0
    for seed in range(50):
        sample = SampleConfig(**{"temperature": 1.0, "top_p": 1.0, **settings, "seed": seed})
        drawn = {draw_from(logits + sign * step, [0], 0, sample) for sign in (1, -1)}
        others += len(drawn) == 2
        draw = Draw(logits, [0], 0, sample, 4)
        assert {t for t in range(5) if least_change(draw, t, 0.0, TOLERANCE) < 1e-6} >= drawn
        assert least_change(draw, 4, 0.0, TOLERANCE) == float("inf")
        # Away from the edge, one token is left.
        draw = draw._replace(logits=logits + 0.01 * np.array([1, 0, 0, -1, 0]))
        assert sum(least_change(draw, t, 0.0, TOLERANCE) < 1 for t in range(5)) == 1
    assert others > 1


def explain(bundle: Bundle, others: list[list[int]], sample: SampleConfig) -> list[float]:
    """Return the changes of the logits that explain the texts of a runtime after one prompt."""
    end = bundle.tokenizer.end_of_text
    seeds = range(len(others))
    texts = list(np.stack(list(make_generator(bundle)([[end]] * len(others), seeds, sample))).T)
    model = load_jax_model(bundle)
    return [
        explain_difference(
            model, [end], (text.tolist(), other), replace(sample, seed=seed), TOLERANCE
        )
        for seed, text, other in zip(seeds, texts, others, strict=True)
        if text.tolist() != other
    ]


def generate(
    bundle: Bundle, sample: SampleConfig, count: int, first_seed: int = 0
) -> list[list[int]]:
    """Generate texts in PyTorch."""
    start = torch.full((count, 1), bundle.tokenizer.end_of_text)
    settings = sample.temperature, sample.top_k, sample.top_p
    tokens = Generator(bundle).generate(start, sample.max_new_tokens, *settings, first_seed)
    return tokens[:, 1:].tolist()


def test_another_sampler_or_other_weights_are_not_explained(small: Bundle) -> None:
    sample = SampleConfig(max_new_tokens=40, temperature=1.0, top_p=0.9)
    assert explain(small, generate(small, sample, 8), sample) == []
    for change in ({"top_p": 0.8}, {"top_k": 5}, {"temperature": 1.05}):
        changes = explain(small, generate(small, replace(sample, **change), 8), sample)
        assert changes
        assert min(changes) == float("inf"), change
    changes = explain(small, generate(small, sample, 8, first_seed=1), sample)
    assert len(changes) == 8
    assert min(changes) == float("inf")
    head = small.tensors["lm_head.weight"]
    noise = np.random.default_rng(0).normal(size=head.shape).astype(np.float32)
    other = replace(small, tensors={**small.tensors, "lm_head.weight": head + 1e-2 * noise})
    changes = explain(small, generate(other, sample, 8), sample)
    assert changes
    assert min(changes) == float("inf")


def test_every_token_after_the_first_difference_is_judged(small: Bundle) -> None:
    """One that no rounding explains fails the text, also in the window after the context."""
    sample = SampleConfig(max_new_tokens=40, temperature=1.0, top_p=0.9)
    (text,) = generate(small, sample, 1)
    for index in (5, 39):
        other = [*text[:index], (text[index] + 1) % 300, *text[index + 1 :]]
        assert explain(small, [other], sample) == [float("inf")]
        pair = other, text  # The reference is judged too.
        model, prompt = load_jax_model(small), [small.tokenizer.end_of_text]
        assert explain_difference(model, prompt, pair, sample, TOLERANCE) == float("inf")
    assert explain(small, [text[:-1]], sample) == [float("inf")]


def boundary_bundle(make: Callable[..., Bundle], shift: float) -> Bundle:
    """Return a model of constant logits; draw 3 of seed 1, temperature 0.8, is at a boundary."""
    bundle = make()
    u = uniform(1, 3)
    tensors = {name: tensor.copy() for name, tensor in bundle.tensors.items()}
    tensors["transformer.ln_f.weight"][:], tensors["transformer.ln_f.bias"][:] = 0, 0
    tensors["transformer.ln_f.bias"][0] = 1
    tensors["lm_head.weight"][:, 0] = -20
    tensors["lm_head.weight"][100, 0] = 0.8 * np.log(u / (1 - u)) + shift
    tensors["lm_head.weight"][200, 0] = 0
    return replace(bundle, tensors=tensors)


@pytest.mark.slow
@pytest.mark.parametrize(("shift", "failed"), [(1e-6, 0), (1e-2, 4)])
def test_verify_counts_texts_that_differ_beyond_rounding(
    make: Callable[..., Bundle],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    shift: float,
    failed: int,
) -> None:
    directory, file = tmp_path / "bundle", tmp_path / "other.pt"
    save_bundle(boundary_bundle(make, -shift), tmp_path / "other")
    torchscript.write(tmp_path / "other", file)
    save_bundle(boundary_bundle(make, shift), directory)
    comparisons = [*parity.compare_tokens(directory, file, [], PLAN, lambda _: None)]
    assert sum(c.difference for c in comparisons if c.runtime == "PyTorch") == 0
    script = [
        comparison
        for comparison in comparisons
        if comparison.runtime == "TorchScript" and "(temperature 0.8, " in comparison.quantity
    ]
    assert script[0].quantity == (
        "texts of 4 that differ beyond rounding (temperature 0.8, top-k 0, top-p 0.95)"
    )
    assert script[0].difference == failed
    assert script[0].passed == (failed == 0)
    assert len(script) == (1 if failed else 2)
    report = make_report({}, comparisons)
    assert report["passed"] == (failed == 0)
    print_report(report)
    out = " ".join(capsys.readouterr().out.split())
    assert ("change of logits that explains" in out) == (failed == 0)
    if not failed:
        assert script[1].quantity.startswith("change of logits that explains 4 texts of 4 (")
        assert 1e-8 < script[1].difference <= 1.1e-6
        assert script[1].allowed == TOLERANCE
