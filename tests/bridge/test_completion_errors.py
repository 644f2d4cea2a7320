"""Wrong requests for completions end in an error object that names the field."""

import json
import re
from typing import Any

import pytest

from tests.support.serving import PageServer, post, request

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
