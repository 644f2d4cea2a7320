"""A loaded model generates, scores and shows its inside, in JAX and in PyTorch alike."""

import inspect
import math
import pydoc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import bridge
import valyrian_jax as vx
from valyrian_jax.bundle.bundle import load_bundle
from valyrian_jax.bundle.shipped_model import SHIPPED_MODEL
from valyrian_jax.bundle.text_generation import generate_texts, resolve_sample_config
from valyrian_jax.config import SampleConfig
from valyrian_jax.data.text import DOCUMENT_SEPARATOR
from valyrian_jax.data.windows import make_eval_windows
from valyrian_jax.evaluation.text_loss import evaluate_text

SENTENCE = "the wolf sees a dragon. Ȳdra daor! "


@pytest.fixture(scope="module")
def both(home: Path) -> tuple[vx.Model, bridge.Model]:
    run = home / "runs" / "first"
    return vx.load(run), bridge.load(run)


def test_settings_left_out_are_those_of_the_run(model: Any) -> None:
    sample = resolve_sample_config(model.bundle, {})
    assert (sample.max_new_tokens, sample.seed) == (24, 5)
    (text,) = generate_texts(
        model.generate_tokens, model.tokenizer, ["the wolf"], [sample.seed], sample
    )
    assert model.generate("the wolf") == text
    assert model.generate("the wolf", seed=5, max_new_tokens=24, temperature=1.3) == text
    assert model.generate("the wolf", seed=6) != text


@pytest.mark.parametrize("name", ["generate", "stream", "generate_grammatical"])
def test_help_lists_the_settings_with_their_types_and_defaults(model: Any, name: str) -> None:
    parameters = inspect.signature(getattr(model, name)).parameters
    fields = {field: value for field, value in vars(SampleConfig()).items() if field != "prompt"}
    assert {field: parameters[field].default for field in fields} == fields
    shown = pydoc.render_doc(getattr(type(model), name), renderer=pydoc.plaintext)
    assert "temperature: float | None = 0.8" in shown
    assert "**" not in shown


def test_the_pieces_of_a_stream_join_to_the_text(model: Any) -> None:
    pieces = [*model.stream("Ȳdra", seed=3)]
    assert "Ȳdra" + "".join(pieces) == model.generate("Ȳdra", seed=3)
    assert "" not in pieces


def test_prompts_of_a_list_give_what_each_gives_alone(model: Any) -> None:
    prompts = ["the wolf", "", SENTENCE * 3]
    seeds = [1, 2, 3]
    alone = [model.generate(p, seed=seed) for p, seed in zip(prompts, seeds, strict=True)]
    assert model.generate(prompts, seeds=seeds) == alone
    assert model.generate(tuple(prompts), seed=1) == alone
    assert model.generate([]) == []


def test_a_stop_string_ends_the_text(model: Any) -> None:
    text = model.generate("the", seed=3)
    stop = text[10:12]
    expected = text[: 3 + text[3:].index(stop)]
    assert model.generate("the", seed=3, stop=stop) == expected
    assert model.generate("the", seed=3, stop=["never", stop]) == expected


def test_numbers_of_numpy_are_settings(model: Any) -> None:
    text = model.generate("the", seed=np.int64(3), temperature=np.float32(0.5))
    assert text == model.generate("the", seed=3, temperature=0.5)
    for seeds in (np.array([3]), [np.int64(3)], range(3, 4), iter([3]), (3,)):
        assert model.generate(["the"], seeds=seeds, temperature=0.5) == [text]
    assert model.lens("the", top=np.int64(2)).ids.shape[-1] == 2


def test_both_give_the_same(both: tuple[vx.Model, bridge.Model]) -> None:
    jax_model, torch_model = both
    for seed in range(4):
        options: Any = {"seed": seed, "top_p": 0.9, "stop": ".", "min_new_tokens": 5}
        options |= {"min_p": 0.01, "repetition_penalty": 1.2}
        assert jax_model.generate("the", **options) == torch_model.generate("the", **options)
    ids = jax_model.encode(SENTENCE)[:16]
    logits, torch_logits = jax_model.logits(ids), torch_model.logits(ids)
    assert logits.shape == (len(ids), 300)
    assert logits.dtype == torch_logits.dtype == np.float32
    np.testing.assert_allclose(logits, torch_logits, atol=1e-4)
    labels, weights = jax_model.attention("the wolf")
    torch_labels, torch_weights = torch_model.attention("the wolf")
    assert labels == torch_labels
    assert weights.shape == (2, 3, len(labels), len(labels))
    np.testing.assert_allclose(weights, torch_weights, atol=1e-5)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    scores = [model.score(SENTENCE * 4) for model in both]
    np.testing.assert_allclose(scores[0].log_probabilities, scores[1].log_probabilities, atol=1e-4)


def test_both_give_the_same_lens(both: tuple[vx.Model, bridge.Model]) -> None:
    lens, torch_lens = (model.lens("the wolf", top=3) for model in both)
    assert lens.tokens == torch_lens.tokens == both[0].attention("the wolf").tokens
    assert lens.predictions == torch_lens.predictions
    assert lens.ids.shape == (3, len(lens.tokens), 3)
    np.testing.assert_array_equal(lens.ids, torch_lens.ids)
    np.testing.assert_allclose(lens.probabilities, torch_lens.probabilities, atol=1e-5)


def test_the_last_layer_of_a_lens_is_the_model(model: Any) -> None:
    lens, logits = model.lens("the wolf"), model.logits(model.encode("the wolf"))
    assert lens.ids[-1, :, 0].tolist() == logits.argmax(-1).tolist()
    labels = [model.lens(model.decode([i])).tokens[0] for i in logits.argmax(-1)]
    assert lens.predictions[-1] == labels
    assert model.lens("").tokens == ["<|endoftext|>"]


@pytest.mark.parametrize("length", [1, 5, 16])
def test_logits_are_those_of_the_module(both: tuple[vx.Model, bridge.Model], length: int) -> None:
    import torch

    ids = both[0].encode(SENTENCE)[:length]
    expected = both[1].module(torch.tensor([ids]))[0].numpy()
    np.testing.assert_allclose(both[0].logits(ids), expected, atol=1e-4)


@pytest.mark.parametrize("copies", [1, 2, 9])
def test_a_score_agrees_with_the_evaluation(model: Any, copies: int) -> None:
    text = SENTENCE * copies
    score, loss = model.score(text), evaluate_text(model.bundle, [text])
    ids = model.encode(text)
    assert loss.tokens == len(ids) + 1  # the end of the document
    assert loss.bytes == len(text.encode()) + len(DOCUMENT_SEPARATOR)
    end = loss.nats_per_token * loss.tokens - score.nats_per_token * len(ids)
    # The evaluation predicts the end in its last window.
    eot = model.tokenizer.end_of_text
    windows = make_eval_windows(np.array([eot, *ids, eot]), 1, 16)
    inputs = windows.tokens[-1, 0, :16]
    last = int(np.flatnonzero(windows.counted[-1, 0])[-1])
    logits = model.logits(inputs[: last + 1])[-1].astype(np.float64)
    expected = math.log(np.exp(logits - logits[eot]).sum())
    assert end == pytest.approx(expected, abs=2e-4)


def test_a_score_has_its_numbers_in_several_units(model: Any) -> None:
    score = model.score("Ȳdra daor!")
    ids = model.encode("Ȳdra daor!")
    nats = -float(score.log_probabilities.sum())
    assert len(score.tokens) == len(score.log_probabilities) == len(ids)
    assert "␣" in "".join(score.tokens)
    assert score.nats_per_token == pytest.approx(nats / len(ids), rel=1e-5)
    assert score.bits_per_byte == pytest.approx(nats / math.log(2) / 11, rel=1e-5)
    assert score.perplexity == pytest.approx(math.exp(nats / len(ids)), rel=1e-5)
    # The first token follows <|endoftext|>, the second both.
    logits = model.logits([model.tokenizer.end_of_text, *ids[:-1]]).astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = np.log(probabilities[np.arange(len(ids)), ids])
    np.testing.assert_allclose(score.log_probabilities, expected, rtol=1e-4)


def test_text_comes_back_from_its_ids(model: Any) -> None:
    ids = model.encode(SENTENCE)
    assert model.decode(ids) == SENTENCE
    for other in (np.array(ids), iter(ids), tuple(ids), dict(enumerate(ids)).values()):
        assert model.decode(other) == SENTENCE
    assert model.tokenizer is model.bundle.tokenizer
    assert model.config.n_positions == 16


def test_a_model_says_what_it_is(model: Any, package: ModuleType, home: Path) -> None:
    shown = repr(model)
    assert shown.startswith(f"<{package.__name__}.Model from {home}/runs/first/bundle: 2 blocks, ")
    assert "\n" not in shown


def test_the_newest_run_is_the_default(
    package: ModuleType, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    assert package.load().directory == Path("runs/first/bundle")
    assert package.load("runs/first/bundle").generate("a") == package.load().generate("a")


def test_several_threads_share_a_model(model: Any) -> None:
    def use(seed: int) -> tuple[str, str, float]:
        text = model.generate("the wolf", seed=seed)
        streamed = "".join(model.stream(SENTENCE, seed=seed))
        return text, streamed, model.score(SENTENCE * (1 + seed % 3)).nats_per_token

    alone = [use(seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(use, range(8))] == alone


def test_the_model_that_ships_has_a_name(package: ModuleType) -> None:
    assert package.load("shipped").directory == SHIPPED_MODEL


def test_weights_that_overflow_are_an_error(package: ModuleType, home: Path) -> None:
    bundle = load_bundle(home / "runs" / "first" / "bundle")
    huge = {name: tensor * np.float32(1e30) for name, tensor in bundle.tensors.items()}
    model = package.load(home / "runs" / "first").__class__(replace(bundle, tensors=huge))
    for use in (model.generate, model.score, model.attention):
        with pytest.raises(vx.UserError, match="the logits are not finite"):
            use("the wolf")
    assert " from " not in repr(model)
