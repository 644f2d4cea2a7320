"""Programs written for OpenAI's completions protocol work with the server: here its own client."""

import json
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
import torch

from bridge import __main__ as main
from bridge.generator import Generator
from bridge.streaming import stream
from bridge.web.completion_request import CompletionRequest
from bridge.web.completion_texts import stream_choices
from tests.support.commands import call
from tests.support.serving import SAMPLE, PageServer, post, request, start_server
from valyrian_jax.bundle.bundle import Bundle, save_bundle
from valyrian_jax.bundle.shipped_model import short_name
from valyrian_jax.bundle.text_generation import encode_prompt, generate_texts
from valyrian_jax.config import SampleConfig

SETTINGS: dict[str, Any] = {"max_tokens": 60, "temperature": 0.2, "top_p": 0.7, "seed": 7}
PROMPT = SAMPLE.prompt


@pytest.fixture(scope="module")
def model(endless_directory: Path) -> str:
    return short_name(endless_directory)


@pytest.fixture(scope="module")
def client(page_server: PageServer) -> Iterator[openai.OpenAI]:
    with connect(page_server) as client:
        yield client


def connect(page_server: PageServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=page_server.url + "v1", api_key="none", max_retries=0)


def generate(bundle: Bundle, generator: Generator, prompt: str, **changes: Any) -> str:
    """Return the new text that `generate` gives."""
    sample = replace(SAMPLE, prompt=prompt, **changes)
    texts = generate_texts(
        lambda *args: stream(generator, *args), bundle.tokenizer, [prompt], [sample.seed], sample
    )
    return texts[0].removeprefix(prompt)


def test_the_model_is_listed_and_found_by_its_name(client: openai.OpenAI, model: str) -> None:
    assert [each.id for each in client.models.list()] == [model]
    assert client.models.retrieve(model).object == "model"
    with pytest.raises(openai.NotFoundError, match="does not exist: expected") as caught:
        client.models.retrieve("gpt-5")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_completion_is_the_text_of_the_command(
    is_streamed: bool,
    client: openai.OpenAI,
    model: str,
    endless_directory: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ["--prompt", PROMPT, "--temperature", 0.2, "--top-p", 0.7, "--seed", 7]
    command = ["generate", endless_directory, *options, "--max-new-tokens", 60]
    status, out, _ = call(main.main, capsys, monkeypatch, *command)
    assert status == 0
    answer = client.completions.create(model=model, prompt=PROMPT, stream=is_streamed, **SETTINGS)
    chunks = list(answer) if is_streamed else [answer]
    assert (len(chunks) > 10) == is_streamed
    assert PROMPT + "".join(chunk.choices[0].text for chunk in chunks) + "\n" == out
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["length"]
    assert all(chunk.object == "text_completion" and chunk.model == model for chunk in chunks)
    assert len({chunk.id for chunk in chunks}) == 1


def test_every_choice_is_what_it_is_alone(
    client: openai.OpenAI, model: str, endless: Bundle, generator: Generator
) -> None:
    prompts = ["the wolf", "", "Ȳdra daor! the quick dragon sees a lazy wolf and a lazy river"]
    answer = client.completions.create(model=model, prompt=prompts, n=2, **SETTINGS)
    expected = [
        generate(endless, generator, prompt, seed=seed) for prompt in prompts for seed in (7, 8)
    ]
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3, 4, 5]
    assert [choice.text for choice in answer.choices] == expected
    streamed = [""] * 6
    for chunk in client.completions.create(
        model=model, prompt=prompts, n=2, stream=True, **SETTINGS
    ):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == expected


def test_a_prompt_can_be_tokens(client: openai.OpenAI, model: str, endless: Bundle) -> None:
    texts = ["the wolf", "Ȳdra"]
    ids = [endless.tokenizer.encode(text) for text in texts]
    by_text = client.completions.create(model=model, prompt=texts, echo=True, **SETTINGS)
    by_ids = client.completions.create(model=model, prompt=ids, echo=True, **SETTINGS)
    assert [c.text for c in by_ids.choices] == [c.text for c in by_text.choices]
    assert by_ids.usage == by_text.usage
    one = client.completions.create(model=model, prompt=ids[1], echo=True, **SETTINGS)
    assert one.choices[0].text == by_text.choices[1].text


def test_usage_counts_tokens(client: openai.OpenAI, model: str, endless: Bundle) -> None:
    prompt_tokens = len(endless.tokenizer.encode(PROMPT))
    usage = client.completions.create(model=model, prompt=PROMPT, n=3, **SETTINGS).usage
    assert usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (prompt_tokens, 180)
    assert usage.total_tokens == prompt_tokens + 180
    *chunks, last = client.completions.create(
        model=model,
        prompt=PROMPT,
        n=3,
        stream=True,
        stream_options={"include_usage": True},
        **SETTINGS,
    )
    assert last.usage == usage
    assert last.choices == []
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


@pytest.mark.parametrize("as_list", [False, True])
def test_a_text_ends_before_a_stop_string(
    as_list: bool, client: openai.OpenAI, model: str, endless: Bundle, generator: Generator
) -> None:
    text = generate(endless, generator, PROMPT)
    stop = text[20:24]
    settings = SETTINGS | {"stop": [stop, "never there"] if as_list else stop}
    answer = client.completions.create(model=model, prompt=PROMPT, **settings)
    assert answer.choices[0].text == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    chunks = list(client.completions.create(model=model, prompt=PROMPT, stream=True, **settings))
    assert "".join(chunk.choices[0].text for chunk in chunks) == text[: text.index(stop)]
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_our_settings_are_extra_fields(
    client: openai.OpenAI, model: str, endless: Bundle, generator: Generator
) -> None:
    extra = {"top_k": 9, "min_p": 0.1, "repetition_penalty": 1.5}
    expected = generate(endless, generator, PROMPT, min_new_tokens=3, **extra)
    assert expected != generate(endless, generator, PROMPT)
    for name in ("min_tokens", "min_new_tokens"):
        answer = client.completions.create(
            model=model, prompt=PROMPT, extra_body=extra | {name: 3}, **SETTINGS
        )
        assert answer.choices[0].text == expected


def test_a_document_can_end_but_not_before_min_tokens(
    directory: Path, small: Bundle, tmp_path: Path
) -> None:
    """The most probable token after an empty document ends it."""
    tensors = {name: tensor.copy() for name, tensor in small.tensors.items()}
    tensors["transformer.ln_f.weight"][0], tensors["transformer.ln_f.bias"][0] = 0, 1
    tensors["lm_head.weight"][small.tokenizer.end_of_text, 0] = 1e3
    save_bundle(replace(small, tensors=tensors), tmp_path / "bundle")
    with start_server(tmp_path / "bundle") as page_server, connect(page_server) as client:
        settings: dict[str, Any] = {"model": tmp_path.name, "prompt": "a", "seed": 1}
        answer = client.completions.create(**settings)
        assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("", "stop")
        assert answer.usage
        assert answer.usage.completion_tokens == 1
        *_, last = client.completions.create(**settings, stream=True)
        assert last.choices[0].finish_reason == "stop"
        answer = client.completions.create(**settings, extra_body={"min_tokens": 5})
        assert answer.usage
        assert answer.usage.completion_tokens == 6


def test_a_request_without_settings_has_those_of_the_run_and_a_seed_of_its_own(
    client: openai.OpenAI, model: str
) -> None:
    first, second = (client.completions.create(model=model, prompt=PROMPT) for _ in range(2))
    assert first.usage
    assert first.usage.completion_tokens == SampleConfig().max_new_tokens
    assert first.choices[0].text != second.choices[0].text


def model_logprobs(generator: Generator, tokens: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return generator(torch.tensor([tokens]))[0].log_softmax(-1)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_logprobs_are_those_of_the_model(
    is_streamed: bool,
    client: openai.OpenAI,
    model: str,
    endless: Bundle,
    generator: Generator,
) -> None:
    tokenizer = endless.tokenizer
    answer = client.completions.create(
        model=model,
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


def test_zero_tokens_with_echo_give_the_prompt(client: openai.OpenAI, model: str) -> None:
    for is_streamed in (False, True):
        answer = client.completions.create(
            model=model, prompt=PROMPT, echo=True, max_tokens=0, stream=is_streamed
        )
        chunks = list(answer) if is_streamed else [answer]
        assert "".join(chunk.choices[0].text for chunk in chunks) == PROMPT
        assert chunks[-1].choices[0].finish_reason == "length"


WRONG: list[tuple[dict[str, Any], str | None, str]] = [
    ({"top_p": 0}, "top_p", "top_p = 0: input should be greater than 0"),
    ({"temperature": 1e-9}, "temperature", "must be 0 or at least 0.001"),
    ({"seed": -1}, "seed", "seed = -1"),
    ({"stop": ""}, "stop", "stop = '': expected strings of at least one character"),
    ({"stop": ["a"] * 5}, "stop", "expected at most 4 strings, found 5 strings"),
    ({"stop": "a" * 201}, "stop", "expected at most 200 characters, found 201"),
    ({"stop": [1]}, "stop", "stop.0 = 1: input should be a valid string"),
    ({"stop": ["\ud800"]}, "stop", r"'stop = \ud800' is not valid Unicode"),
    ({"min_p": 2}, "min_p", "min_p = 2"),
    ({"max_tokens": 0}, "max_tokens", "max_tokens is 0, expected a whole number from 1 to 1000"),
    ({"max_tokens": 1001}, "max_tokens", "max_tokens is 1001, expected"),
    ({"max_tokens": True}, "max_tokens", "max_tokens is a boolean, expected"),
    ({"min_tokens": "3"}, "min_tokens", "min_tokens is a string, expected"),
    ({"min_tokens": 3, "min_new_tokens": 50}, "min_new_tokens", "are the same setting; leave one"),
    ({"n": 0}, "n", "n is 0, expected a whole number from 1 to 64"),
    ({"n": 128}, "n", "n is 128, expected a whole number from 1 to 64"),
    ({"n": 33, "prompt": ["a", "b"]}, "n", "expected at most 64 (prompts x n), found 66"),
    ({"prompt": ["a"] * 65}, "prompt", "too many texts: expected at most 64"),
    ({"logprobs": 6}, "logprobs", "logprobs is 6, expected a whole number from 0 to 5"),
    ({"logprobs": True}, "logprobs", "logprobs is a boolean"),
    ({"echo": 1}, "echo", "echo is a number, expected true or false"),
    ({"stream_options": {}, "stream": "yes"}, "stream", "stream is a string"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "set stream to true"),
    ({"stream_options": {"foo": 1}, "stream": True}, "stream_options", "unrecognized field 'foo'"),
    ({"best_of": 2}, "best_of", "best_of is not supported: expected 1, the value of n"),
    ({"best_of": True}, "best_of", "best_of is a boolean"),
    ({"frequency_penalty": 0.5}, "frequency_penalty", "frequency_penalty is not supported"),
    ({"frequency_penalty": False}, "frequency_penalty", "frequency_penalty is not supported"),
    ({"presence_penalty": "0"}, "presence_penalty", "presence_penalty is not supported"),
    ({"logit_bias": []}, "logit_bias", "logit_bias is not supported"),
    ({"logit_bias": {"5": 1}}, "logit_bias", "logit_bias is not supported"),
    ({"suffix": "a"}, "suffix", "suffix is not supported"),
    ({"temprature": 1}, "temprature", "unrecognized field 'temprature'"),
    ({"prompt": []}, "prompt", "empty array"),
    ({"prompt": [[]]}, "prompt", "no tokens"),
    ({"prompt": [1, 300]}, "prompt", "whole numbers from 0 to 299, found 300"),
    ({"prompt": [1, "a"]}, "prompt", "a prompt is a number, expected a string or an array"),
    ({"prompt": {"a": 1}}, "prompt", "a prompt is an object"),
    ({"prompt": "a" * 5001}, "prompt", "expected at most 5,000 characters or tokens, found 5,001"),
    ({"prompt": "a\ud800"}, "prompt", "lone surrogate"),
]


@pytest.mark.parametrize(("fields", "param", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_field_is_named_in_the_error_object(
    page_server: PageServer, fields: dict[str, Any], param: str | None, words: str
) -> None:
    status, text = post(page_server.port, "/v1/completions", {"prompt": "a"} | fields)
    assert status == 400
    error = json.loads(text)["error"]
    assert words in error["message"]
    assert not re.search(r"\n|sample\.|configuration|python -m", error["message"])
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


def test_the_client_raises_its_own_errors(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError, match="top_p = 0") as caught:
        client.completions.create(model=model, prompt="a", top_p=0)
    assert caught.value.param == "top_p"
    with pytest.raises(openai.NotFoundError, match="the model 'gpt-5' does not exist"):
        client.completions.create(model="gpt-5", prompt="a")
    with pytest.raises(openai.NotFoundError, match="the model continues texts and has no chat"):
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "a"}])


def test_fields_that_change_nothing_are_accepted(client: openai.OpenAI, model: str) -> None:
    neutral: dict[str, Any] = {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}}
    neutral |= {"best_of": 1, "suffix": None, "user": "someone", "logprobs": None, "stop": None}
    plain = client.completions.create(model=model, prompt=PROMPT, **SETTINGS)
    answer = client.completions.create(model=model, prompt=PROMPT, **SETTINGS, **neutral)
    assert answer.choices == plain.choices


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (b"{", {}, "the request is not JSON"),
        (b"[]", {}, "expected a JSON object"),
        (b" " * 200_000, {}, "the request is too long"),
        (b"{}", {"Content-Type": "text/plain"}, "expected Content-Type: application/json"),
        (b"{}", {"Host": "evil.example"}, "expected 127.0.0.1 or localhost, found 'evil.example'"),
    ],
    ids=["not JSON", "array", "long", "type", "host"],
)
def test_the_limits_of_the_server_hold_for_completions(
    page_server: PageServer, body: bytes, headers: dict[str, str], words: str
) -> None:
    status, text = post(page_server.port, "/v1/completions", body, **headers)
    assert status == 400
    assert words in json.loads(text)["error"]["message"]


def test_another_method_gets_an_error_object(page_server: PageServer) -> None:
    status, body = request(page_server.port, "GET", "/v1/completions")
    assert status == 405
    assert "found GET /v1/completions" in json.loads(body)["error"]["message"]


def test_a_prompt_can_be_left_out(client: openai.OpenAI, model: str, endless: Bundle) -> None:
    answer = client.completions.create(model=model, prompt=None, **SETTINGS)
    assert answer.choices[0].text
    assert answer.usage
    assert answer.usage.prompt_tokens == len(encode_prompt(endless.tokenizer, ""))


def test_a_stream_that_the_server_stops_ends_with_an_error(endless_directory: Path) -> None:
    with start_server(endless_directory) as page_server, connect(page_server) as client:
        chunks = client.completions.create(
            model=short_name(endless_directory), prompt="a", max_tokens=1000, stream=True
        )
        next(chunks)
        page_server.send_signal(signal.SIGINT)
        with pytest.raises(openai.APIError, match="the server stopped the text"):
            for _ in chunks:
                pass


def test_a_stream_whose_client_leaves_ends(page_server: PageServer, model: str) -> None:
    with connect(page_server) as client:
        chunks = client.completions.create(
            model=model, prompt="a", max_tokens=1000, stream=True, seed=31
        )
        next(chunks)
        chunks.close()
    assert page_server.wait_for_end(31).endswith(" tokens, stopped early")
