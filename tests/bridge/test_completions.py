"""Programs written for OpenAI's completions protocol work with the server: here its own client."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from bridge import __main__ as main
from bridge.generator import Generator
from bridge.streaming import stream
from tests.support.commands import call
from tests.support.completions import PROMPT, SETTINGS, connect
from tests.support.serving import SAMPLE, PageServer, start_server
from valyrian_jax.bundle.bundle import Bundle, save_bundle
from valyrian_jax.bundle.shipped_model import short_name
from valyrian_jax.bundle.text_generation import encode_prompt, generate_texts
from valyrian_jax.config import SampleConfig


def generate(bundle: Bundle, generator: Generator, prompt: str, **changes: Any) -> str:
    """Return the new text that `generate` gives."""
    sample = replace(SAMPLE, prompt=prompt, **changes)
    texts = generate_texts(
        lambda *args: stream(generator, *args), bundle.tokenizer, [prompt], [sample.seed], sample
    )
    return texts[0].removeprefix(prompt)


def test_the_model_is_listed_and_found_by_its_name(client: openai.OpenAI, model_name: str) -> None:
    assert [each.id for each in client.models.list()] == [model_name]
    assert client.models.retrieve(model_name).object == "model"
    with pytest.raises(openai.NotFoundError, match="does not exist: expected") as caught:
        client.models.retrieve("gpt-5")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_completion_is_the_text_of_the_command(
    is_streamed: bool,
    client: openai.OpenAI,
    model_name: str,
    endless_directory: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ["--prompt", PROMPT, "--temperature", 0.2, "--top-p", 0.7, "--seed", 7]
    command = ["generate", endless_directory, *options, "--max-new-tokens", 60]
    status, out, _ = call(main.main, capsys, monkeypatch, *command)
    assert status == 0
    answer = client.completions.create(
        model=model_name, prompt=PROMPT, stream=is_streamed, **SETTINGS
    )
    chunks = list(answer) if is_streamed else [answer]
    assert (len(chunks) > 10) == is_streamed
    assert PROMPT + "".join(chunk.choices[0].text for chunk in chunks) + "\n" == out
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["length"]
    assert all(chunk.object == "text_completion" and chunk.model == model_name for chunk in chunks)
    assert len({chunk.id for chunk in chunks}) == 1


def test_every_choice_is_what_it_is_alone(
    client: openai.OpenAI, model_name: str, endless: Bundle, generator: Generator
) -> None:
    prompts = ["the wolf", "", "Ȳdra daor! the quick dragon sees a lazy wolf and a lazy river"]
    answer = client.completions.create(model=model_name, prompt=prompts, n=2, **SETTINGS)
    expected = [
        generate(endless, generator, prompt, seed=seed) for prompt in prompts for seed in (7, 8)
    ]
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3, 4, 5]
    assert [choice.text for choice in answer.choices] == expected
    streamed = [""] * 6
    for chunk in client.completions.create(
        model=model_name, prompt=prompts, n=2, stream=True, **SETTINGS
    ):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == expected


def test_a_prompt_can_be_tokens(client: openai.OpenAI, model_name: str, endless: Bundle) -> None:
    texts = ["the wolf", "Ȳdra"]
    ids = [endless.tokenizer.encode(text) for text in texts]
    by_text = client.completions.create(model=model_name, prompt=texts, echo=True, **SETTINGS)
    by_ids = client.completions.create(model=model_name, prompt=ids, echo=True, **SETTINGS)
    assert [c.text for c in by_ids.choices] == [c.text for c in by_text.choices]
    assert by_ids.usage == by_text.usage
    one = client.completions.create(model=model_name, prompt=ids[1], echo=True, **SETTINGS)
    assert one.choices[0].text == by_text.choices[1].text


def test_usage_counts_tokens(client: openai.OpenAI, model_name: str, endless: Bundle) -> None:
    prompt_tokens = len(endless.tokenizer.encode(PROMPT))
    usage = client.completions.create(model=model_name, prompt=PROMPT, n=3, **SETTINGS).usage
    assert usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (prompt_tokens, 180)
    assert usage.total_tokens == prompt_tokens + 180
    *chunks, last = client.completions.create(
        model=model_name,
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
    as_list: bool, client: openai.OpenAI, model_name: str, endless: Bundle, generator: Generator
) -> None:
    text = generate(endless, generator, PROMPT)
    stop = text[20:24]
    settings = SETTINGS | {"stop": [stop, "never there"] if as_list else stop}
    answer = client.completions.create(model=model_name, prompt=PROMPT, **settings)
    assert answer.choices[0].text == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    chunks = list(
        client.completions.create(model=model_name, prompt=PROMPT, stream=True, **settings)
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == text[: text.index(stop)]
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_our_settings_are_extra_fields(
    client: openai.OpenAI, model_name: str, endless: Bundle, generator: Generator
) -> None:
    extra = {"top_k": 9, "min_p": 0.1, "repetition_penalty": 1.5}
    expected = generate(endless, generator, PROMPT, min_new_tokens=3, **extra)
    assert expected != generate(endless, generator, PROMPT)
    for name in ("min_tokens", "min_new_tokens"):
        answer = client.completions.create(
            model=model_name, prompt=PROMPT, extra_body=extra | {name: 3}, **SETTINGS
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
    client: openai.OpenAI, model_name: str
) -> None:
    first, second = (client.completions.create(model=model_name, prompt=PROMPT) for _ in range(2))
    assert first.usage
    assert first.usage.completion_tokens == SampleConfig().max_new_tokens
    assert first.choices[0].text != second.choices[0].text


def test_the_client_raises_its_own_errors(client: openai.OpenAI, model_name: str) -> None:
    with pytest.raises(openai.BadRequestError, match="top_p = 0") as caught:
        client.completions.create(model=model_name, prompt="a", top_p=0)
    assert caught.value.param == "top_p"
    with pytest.raises(openai.NotFoundError, match="the model 'gpt-5' does not exist"):
        client.completions.create(model="gpt-5", prompt="a")
    with pytest.raises(openai.NotFoundError, match="the model continues texts and has no chat"):
        client.chat.completions.create(
            model=model_name, messages=[{"role": "user", "content": "a"}]
        )


def test_fields_that_change_nothing_are_accepted(client: openai.OpenAI, model_name: str) -> None:
    neutral: dict[str, Any] = {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}}
    neutral |= {"best_of": 1, "suffix": None, "user": "someone", "logprobs": None, "stop": None}
    plain = client.completions.create(model=model_name, prompt=PROMPT, **SETTINGS)
    answer = client.completions.create(model=model_name, prompt=PROMPT, **SETTINGS, **neutral)
    assert answer.choices == plain.choices


def test_a_prompt_can_be_left_out(client: openai.OpenAI, model_name: str, endless: Bundle) -> None:
    answer = client.completions.create(model=model_name, prompt=None, **SETTINGS)
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


def test_a_stream_whose_client_leaves_ends(page_server: PageServer, model_name: str) -> None:
    with connect(page_server) as client:
        chunks = client.completions.create(
            model=model_name, prompt="a", max_tokens=1000, stream=True, seed=31
        )
        next(chunks)
        chunks.close()
    assert page_server.wait_for_end(31).endswith(" tokens, stopped early")
