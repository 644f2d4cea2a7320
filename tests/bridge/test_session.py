"""What the playground tells of a generation."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bridge.generator import Generator, stream
from bridge.web.session import CHOICES, attention_row, distribution, events, with_verdicts
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.text_generation import encode_prompt, generate_texts
from valyrian_jax.config import SampleConfig

SAMPLE = SampleConfig(
    prompt="the dragon, Ȳdra ", max_new_tokens=60, temperature=0.2, top_k=0, top_p=0.7, seed=7
)


@pytest.mark.parametrize(
    "changes", [{}, {"temperature": 0.0}, {"prompt": "", "top_k": 5, "seed": 2**32 - 1}], ids=str
)
def test_events_tell_the_text_of_generate(
    endless: Bundle, generator: Generator, changes: dict[str, Any]
) -> None:
    sample = SampleConfig(**vars(SAMPLE) | changes)
    told = list(events(generator, endless.tokenizer, sample))
    (text,) = generate_texts(lambda *given: stream(generator, *given), endless.tokenizer, sample)
    assert "".join(event["text"] for event in told) == text
    assert [event["kind"] for event in told].count("end") == 1
    assert [e["id"] for e in told if e["kind"] == "prompt"] == encode_prompt(
        endless.tokenizer, sample.prompt
    )
    assert json.loads(json.dumps(told)) == told


def test_a_text_ends_before_the_end_of_the_document(endless: Bundle) -> None:
    tensors = {**endless.tensors, "lm_head.weight": -endless.tensors["lm_head.weight"]}
    told = list(events(Generator(replace(endless, tensors=tensors)), endless.tokenizer, SAMPLE))
    assert [event["kind"] for event in told[-2:]] == ["prompt", "end"]
    assert told[-1]["why"] == "document"


def test_a_distribution_is_what_the_token_was_drawn_from(small: Bundle) -> None:
    V = small.model.vocab_size
    shares = np.arange(V, 0, -1, dtype=np.float64)
    shares /= shares.sum()
    logits = torch.tensor(np.log(shares))[None]
    plain = vars(SAMPLE) | {"temperature": 1.0}
    found = distribution(logits, 50, SampleConfig(**plain), small.tokenizer)
    kept = int((np.cumsum(shares) - shares < 0.7).sum())
    assert found["kept"] == kept
    assert [choice[0] for choice in found["choices"]] == [*range(CHOICES), 50]
    assert found["probability"] == pytest.approx(shares[50])
    assert [choice[2] for choice in found["choices"]] == pytest.approx(
        [*shares[:CHOICES], shares[50]]
    )
    narrow = SampleConfig(**plain | {"top_p": (shares[0] + shares[1]) * 0.999})
    found = distribution(logits, 1, narrow, small.tokenizer)
    assert [choice[3] for choice in found["choices"]] == [True, True] + [False] * (CHOICES - 2)
    greedy = distribution(logits, 0, SampleConfig(**plain | {"temperature": 0.0}), small.tokenizer)
    assert (greedy["kept"], greedy["probability"]) == (1, pytest.approx(shares[0]))


def test_sentences_are_judged_when_something_follows_them() -> None:
    pieces = [
        ("prompt", "Valar "),
        ("prompt", "morghūlis."),
        ("token", " Zaldrīzes "),
        ("token", "kara issa"),
        ("token", "!"),
    ]
    told = [
        {"kind": kind, "text": text} for kind, text in [*pieces, ("token", " Vala"), ("end", "")]
    ]
    found = list(with_verdicts(told))
    assert [event for event in found if event["kind"] != "sentence"] == told
    first, second = (event for event in found if event["kind"] == "sentence")
    assert (first["text"], first["grammatical"], first["reason"], first["end"]) == (
        "Valar morghūlis.",
        True,
        "",
        2,
    )
    assert (second["text"], second["grammatical"], second["end"]) == (
        "Zaldrīzes kara issa!",
        False,
        5,
    )
    assert "it must be solar: `karys`" in second["reason"]
    assert found.index(second) == found.index({"kind": "token", "text": " Vala"}) - 1
    whole = [{"kind": "token", "text": "Vala ēdrus."}, {"kind": "end", "text": ""}]
    assert [event["kind"] for event in with_verdicts(whole)] == ["token", "sentence", "end"]


def test_attention_of_the_last_token_in_its_window(endless: Bundle, generator: Generator) -> None:
    tokens = [i % 200 for i in range(40)]  # of which the window of 24 has dropped 24
    start, weights = attention_row(generator, tokens)
    assert start == 24
    assert weights.shape == (2, 3, 16)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3))
