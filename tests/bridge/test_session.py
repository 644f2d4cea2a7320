"""The events of a generation are complete and correct."""

import functools
import itertools
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import bridge
from bridge.generator import Generator
from bridge.inspection import attention_row, lens_table
from bridge.streaming import stream
from bridge.web.session import (
    MAX_CHOICES,
    add_verdicts,
    describe_distribution,
    stream_events,
)
from tests.support.serving import SAMPLE
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.shipped_model import SHIPPED_MODEL
from valyrian_jax.bundle.text_generation import encode_prompt, generate_many_texts
from valyrian_jax.config import SampleConfig


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 0.0},
        {"prompt": "", "top_k": 5, "seed": 2**32 - 1},
        {"min_p": 0.2, "repetition_penalty": 1.5, "top_p": 1.0},
        {"temperature": 0.0, "repetition_penalty": 1.3},
        {"stop": ("e", "never there")},
        {"stop": ("er", "the wolf jumps", "\ufffd"), "temperature": 1.0, "top_p": 1.0},
    ],
    ids=str,
)
def test_the_texts_of_the_events_join_to_the_text_of_generate(
    endless: Bundle, generator: Generator, changes: dict[str, Any]
) -> None:
    sample = SampleConfig(**vars(SAMPLE) | changes)
    events = list(stream_events(generator, endless.tokenizer, sample))
    (text,) = generate_many_texts(
        functools.partial(stream, generator), endless.tokenizer, sample, 1
    )
    assert "".join(event["text"] for event in events) == text
    assert [event["kind"] for event in events].count("end") == 1
    prompt = [event["id"] for event in events if event["kind"] == "prompt"]
    assert prompt == encode_prompt(endless.tokenizer, sample.prompt)
    assert json.loads(json.dumps(events)) == events


def test_the_events_of_a_grammatical_text_describe_the_draws_that_stay() -> None:
    model = bridge.load(SHIPPED_MODEL)
    bundle, redrawn = model.bundle, 0
    for seed, length in itertools.product(range(6), (30, 100)):
        changes = {"prompt": "Sīr vali", "seed": seed, "max_new_tokens": length}
        sample = SampleConfig(**changes, temperature=1.2, top_p=0.97)
        *events, end = stream_events(model.generator, bundle.tokenizer, sample, grammatical=True)
        text, counts = model.generate_grammatical(**vars(sample))
        assert "".join(event["text"] for event in events) + end["text"] == text
        tokens = [event for event in events if event["kind"] == "token"]
        why = "length" if len(tokens) == length else "document"
        assert end == {"kind": "end", "text": "", "why": why, **vars(counts)}
        redrawn += counts.sentences - counts.first_right
        # Under the right tokens, the model gives each of them the probability that its event has.
        ids = [event["id"] for event in events][: bundle.model.n_positions]
        rows = model.logits(ids).astype(np.float64) / sample.temperature
        for i in range(len(events) - len(tokens), len(ids)):
            expected = np.exp(rows[i - 1, ids[i]] - np.logaddexp.reduce(rows[i - 1]))
            assert events[i]["probability"] == pytest.approx(expected, rel=1e-3)
    assert redrawn


def test_a_text_ends_before_the_end_of_the_document(endless: Bundle) -> None:
    tensors = {**endless.tensors, "lm_head.weight": -endless.tensors["lm_head.weight"]}
    generator = Generator(replace(endless, tensors=tensors))
    events = list(stream_events(generator, endless.tokenizer, SAMPLE))
    assert [event["kind"] for event in events[-2:]] == ["prompt", "end"]
    assert events[-1]["why"] == "document"


def test_a_distribution_is_the_one_that_the_token_was_drawn_from(small: Bundle) -> None:
    V = small.model.vocab_size
    expected = np.arange(V, 0, -1, dtype=np.float64)
    expected /= expected.sum()
    logits = torch.tensor(np.log(expected))[None]

    def describe(token: int, **changes: float) -> dict[str, Any]:
        sample = SampleConfig(**vars(SAMPLE) | {"temperature": 1.0} | changes)
        return describe_distribution(logits, token, sample, small.tokenizer)

    distribution = describe(50)
    assert distribution["kept"] == (np.cumsum(expected) - expected < 0.7).sum()
    ids, _, probabilities, _ = zip(*distribution["choices"], strict=True)
    assert ids == (*range(MAX_CHOICES), 50)
    assert probabilities == pytest.approx([*expected[:MAX_CHOICES], expected[50]])
    assert distribution["probability"] == pytest.approx(expected[50])

    distribution = describe(1, top_p=(expected[0] + expected[1]) * 0.999)
    is_kept = [choice[3] for choice in distribution["choices"]]
    assert is_kept == [True, True] + [False] * (MAX_CHOICES - 2)

    distribution = describe(0, temperature=0.0)
    assert distribution["kept"] == 1
    assert distribution["probability"] == pytest.approx(expected[0])


def test_a_sentence_gets_its_verdict_when_the_next_token_follows() -> None:
    prompt = [{"kind": "prompt", "text": text} for text in ("Valar ", "morghūlis.")]
    texts = (" Zaldrīzes ", "kara issa", "!", " Vala")
    events = [*prompt, *({"kind": "token", "text": text} for text in texts)]
    events.append({"kind": "end", "text": ""})
    checked = list(add_verdicts(events))
    assert [event for event in checked if event["kind"] != "sentence"] == events
    first, second = (event for event in checked if event["kind"] == "sentence")
    expected = {"text": "Valar morghūlis.", "grammatical": True, "reason": "", "end": 2}
    assert first == {"kind": "sentence", "verdict": "right", "notes": [], **expected}
    assert "it must be solar: `karys`" in second.pop("reason")
    expected = {"text": "Zaldrīzes kara issa!", "grammatical": False, "end": 5}
    assert second == {"kind": "sentence", "verdict": "mistake", "notes": [], **expected}
    assert checked.index(second) == checked.index({"kind": "token", "text": " Vala"}) - 1


def test_the_last_sentence_gets_its_verdict_before_the_end() -> None:
    events = [{"kind": "token", "text": "Vala ēdrus."}, {"kind": "end", "text": ""}]
    assert [event["kind"] for event in add_verdicts(events)] == ["token", "sentence", "end"]


def test_a_text_ends_before_a_stop_string_in_the_middle_of_a_token(
    endless: Bundle, generator: Generator
) -> None:
    whole = list(stream_events(generator, endless.tokenizer, SAMPLE))
    new = [event for event in whole if event["kind"] == "token"]
    text = "".join(event["text"] for event in new)
    long = next(event["text"] for event in new[10:] if len(event["text"]) > 2)
    end = text.index(long[1:3])
    sample = replace(SAMPLE, stop=(long[1:3],))
    *events, last = stream_events(generator, endless.tokenizer, sample)
    stopped = [event for event in events if event["kind"] == "token"]
    assert last == {"kind": "end", "text": "", "why": "stop"}
    assert "".join(event["text"] for event in stopped) == text[:end]
    assert stopped[:-1] == new[: len(stopped) - 1]


def test_a_distribution_shows_the_settings_that_it_was_drawn_with(
    endless: Bundle, generator: Generator
) -> None:
    def first_token(**changes: Any) -> dict[str, Any]:
        sample = replace(SAMPLE, temperature=1.0, top_p=1.0, max_new_tokens=1, **changes)
        return next(
            event
            for event in stream_events(generator, endless.tokenizer, sample)
            if event["kind"] == "token"
        )

    plain, filtered = first_token(), first_token(min_p=0.5)
    largest = plain["choices"][0][2]
    expected = [choice for choice in plain["choices"] if choice[2] >= 0.5 * largest]
    assert filtered["kept"] == len(expected) < plain["kept"]
    assert [choice[3] for choice in filtered["choices"][: len(expected)]] == [True] * len(expected)
    repeated = endless.tokenizer.encode(SAMPLE.prompt)
    penalized = first_token(repetition_penalty=100.0)
    assert not {choice[0] for choice in penalized["choices"][:3]} & set(repeated)


def test_no_distribution_has_the_end_before_the_least_number_of_tokens(
    small: Bundle, generator: Generator
) -> None:
    tensors = {name: tensor.copy() for name, tensor in small.tensors.items()}
    tensors["transformer.ln_f.weight"][0], tensors["transformer.ln_f.bias"][0] = 0, 1
    tensors["lm_head.weight"][small.tokenizer.end_of_text, 0] = 1e3
    ending = Generator(replace(small, tensors=tensors))
    events = list(stream_events(ending, small.tokenizer, replace(SAMPLE, min_new_tokens=3)))
    new = [event for event in events if event["kind"] == "token"]
    assert len(new) == 3
    assert events[-1]["why"] == "document"
    end = small.tokenizer.end_of_text
    assert all(choice[0] != end for event in new for choice in event["choices"])


def test_attention_is_that_of_the_last_token_in_its_window(
    endless: Bundle, generator: Generator
) -> None:
    tokens = [i % 200 for i in range(40)]  # The window of 24 tokens has dropped the first 24.
    start, weights = attention_row(generator, tokens)
    assert start == 24
    assert weights.shape == (2, 3, 16)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3))


def test_a_lens_has_the_last_tokens_of_the_window(endless: Bundle, generator: Generator) -> None:
    tokens = [i % 200 for i in range(40)]  # The window of 24 tokens has dropped the first 24.
    start, lens = lens_table(generator, endless.tokenizer, tokens)
    assert start == 24
    assert lens.ids.shape == (3, 16, 1)
    assert (
        lens.ids[-1, :, 0].tolist()
        == generator.gpt(torch.tensor([tokens[24:]]))[0].argmax(-1).tolist()
    )
    whole = lens_table(generator, endless.tokenizer, tokens[24:])[1]
    assert whole.predictions == lens.predictions


def test_a_lens_of_a_long_text_has_its_end(
    endless: Bundle, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = list(range(20))
    _, whole = lens_table(generator, endless.tokenizer, tokens)
    monkeypatch.setattr("bridge.inspection.MAX_COLUMNS", 5)
    start, end = lens_table(generator, endless.tokenizer, tokens)
    assert (start, len(end.tokens)) == (15, 5)
    np.testing.assert_array_equal(end.ids, whole.ids[:, 15:])
    np.testing.assert_allclose(end.probabilities, whole.probabilities[:, 15:], rtol=1e-5)
