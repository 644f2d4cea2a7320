"""Logprobs of completions are those of the model."""

from dataclasses import replace

import openai
import pytest
import torch

from bridge.generator import Generator
from bridge.streaming import stream
from bridge.web.completion_request import CompletionRequest
from bridge.web.completion_texts import stream_choices
from tests.support.completions import PROMPT, SETTINGS
from tests.support.serving import SAMPLE
from valyrian_jax.bundle.bundle import Bundle


def model_logprobs(generator: Generator, tokens: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return generator(torch.tensor([tokens]))[0].log_softmax(-1)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_logprobs_are_those_of_the_model(
    is_streamed: bool,
    client: openai.OpenAI,
    model_name: str,
    endless: Bundle,
    generator: Generator,
) -> None:
    tokenizer = endless.tokenizer
    answer = client.completions.create(
        model=model_name,
        prompt=PROMPT,
        echo=True,
        logprobs=2,
        stream=is_streamed,
        **SETTINGS | {"max_tokens": 8},
    )
    chunks = list(answer) if is_streamed else [answer]
    text = "".join(chunk.choices[0].text for chunk in chunks)
    parts = [chunk.choices[0].logprobs for chunk in chunks]
    tokens, logprobs, tops, offsets = (
        [value for part in parts for value in getattr(part, name)]
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    )
    prompt = tokenizer.encode(PROMPT)
    sample = replace(SAMPLE, max_new_tokens=8)
    ids = prompt + [int(row[0]) for row in stream(generator, [prompt], [7], sample)]
    assert len(tokens) == len(logprobs) == len(tops) == len(offsets) == len(ids)
    names = [tokenizer.decode_bytes([i]) for i in ids]
    assert [t.removeprefix("bytes:") for t in tokens if t.startswith("bytes:")] == [
        "".join(f"\\x{byte:02x}" for byte in name) for name in names if not is_text(name)
    ]
    for name, token, offset in zip(names, tokens, offsets, strict=True):
        if is_text(name):
            assert token == name.decode() == text[offset : offset + len(token)]
    assert (logprobs[0], tops[0]) == (None, None)
    expected = model_logprobs(generator, ids)
    for i in range(1, len(ids)):
        assert logprobs[i] == pytest.approx(float(expected[i - 1, ids[i]]), abs=1e-3)
        values = sorted(tops[i].values(), reverse=True)
        assert values[:2] == pytest.approx(expected[i - 1].topk(2).values.tolist(), abs=1e-3)
        assert tops[i][tokens[i]] == logprobs[i]
        assert len(values) in (2, 3)


def is_text(data: bytes) -> bool:
    return "\ufffd" not in data.decode("utf-8", "replace")


def test_a_prompt_alone_is_scored_in_the_windows_of_generation(
    endless: Bundle, generator: Generator
) -> None:
    """As harnesses do that compare the likelihoods of texts: echo, and no new token."""
    ids = tuple(i % 200 for i in range(60))  # longer than the context of 24
    request = CompletionRequest(
        prompts=(ids,),
        texts=(endless.tokenizer.decode(ids),),
        count=1,
        max_tokens=0,
        sample=SAMPLE,
        logprobs=0,
        echo=True,
        stream=False,
        include_usage=False,
    )
    pieces = [p for step in stream_choices(generator, endless.tokenizer, request) for p in step]
    assert [piece.finish_reason for piece in pieces] == [None, "length"]
    scores = pieces[0].scores
    cache = generator.new_cache(1)
    for count in range(1, len(ids)):
        logits, cache = generator.step(torch.tensor([ids[:count]]), cache)
        expected = float(logits[0].log_softmax(-1)[ids[count]])
        assert scores[count].logprob == pytest.approx(expected, abs=1e-3)


def test_zero_tokens_with_echo_give_the_prompt(client: openai.OpenAI, model_name: str) -> None:
    for is_streamed in (False, True):
        answer = client.completions.create(
            model=model_name, prompt=PROMPT, echo=True, max_tokens=0, stream=is_streamed
        )
        chunks = list(answer) if is_streamed else [answer]
        assert "".join(chunk.choices[0].text for chunk in chunks) == PROMPT
        assert chunks[-1].choices[0].finish_reason == "length"
