"""The page's server behaves over real sockets."""

import http.client
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import bridge
from bridge import __main__ as main
from bridge.generator import Generator
from bridge.web.language import check_within
from bridge.web.session import describe_verdict, stream_events
from tests.support.commands import call
from tests.support.serving import SAMPLE, PageServer, post, request, start_server
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.shipped_model import SHIPPED_MODEL
from valyrian_jax.language import check


def test_the_server_sends_the_events_of_the_session(
    page_server: PageServer, endless: Bundle, generator: Generator
) -> None:
    status, body = post(page_server.port, "/generate", vars(SAMPLE) | {"check": False})
    assert status == 200
    expected_events = stream_events(generator, endless.tokenizer, SAMPLE)
    for line, expected in zip(body.splitlines(), expected_events, strict=True):
        event = json.loads(line)
        for key in ("probability", "chance"):  # Another process can use more threads.
            assert event.pop(key, 0) == pytest.approx(expected.pop(key, 0), rel=1e-4)
        choices, expected_choices = event.pop("choices", []), expected.pop("choices", [])
        assert [choice[0] for choice in choices] == [choice[0] for choice in expected_choices]
        assert event == expected
    assert page_server.wait_for_end(7) == "60 tokens"


def test_a_grammatical_text_ends_with_its_counts(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"prompt": "Sīr vali", "seed": 1, "temperature": 1.5, "top_p": 0.97}
    text, counts = bridge.load(SHIPPED_MODEL).generate_grammatical(**settings)
    assert counts.first_right < counts.sentences
    with start_server(shutil.copytree(SHIPPED_MODEL, tmp_path / "bundle")) as server:
        status, body = post(server.port, "/generate", settings | {"grammatical": True})
    assert status == 200
    *events, last = map(json.loads, body.splitlines())
    assert "".join(e["text"] for e in events if e["kind"] != "sentence") + last["text"] == text
    assert last == {"kind": "end", "text": "", "why": "document", **vars(counts)}
    assert all(event["grammatical"] for event in events if event["kind"] == "sentence")


WRONG_REQUESTS: list[tuple[str, Any, str]] = [
    ("/generate", {"top_p": 0}, "top_p = 0: input should be greater than 0"),
    ("/generate", {"seed": -1}, "seed = -1"),
    ("/generate", {"temperature": 1e-9}, "must be 0 or at least 0.001"),
    ("/generate", {"temprature": 1}, "unknown key temprature = 1; did you mean temperature?"),
    ("/generate", {"prompt": "a\ud800b"}, r"'prompt = a\ud800b' is not valid Unicode"),
    ("/generate", {"a\ud800": 1}, r"'a\ud800 = 1' is not valid Unicode"),
    ("/generate", {"a\n\ud83d": [None]}, "is not valid Unicode"),
    ("/generate", {"top_p": None}, "top_p = null: input should be a valid number"),
    (
        "/generate",
        {"prompt": "a" * 5001},
        "the prompt is too long: expected at most 5,000 characters, found 5,001 characters; send",
    ),
    (
        "/generate",
        {"max_new_tokens": 1001},
        "max_new_tokens is too large: expected at most 1,000 tokens, found 1,001 tokens",
    ),
    ("/generate", b"{", "the request is not JSON"),
    ("/generate", b"[" * 100_000, "the request is not JSON"),
    ("/generate", b"\xff", "the request is not JSON"),
    ("/generate", b"[]", "the request is an array, expected a JSON object"),
    ("/attention", b"null", "the request is null, expected a JSON object"),
    ("/attention", b"1.5", "the request is a number, expected a JSON object"),
    (
        "/attention",
        b" " * 200_000,
        "the request is too long: expected at most 131,072 bytes, found more; shorten the text",
    ),
    ("/generate", {"check": "no"}, "check is a string, expected true or false"),
    ("/generate", {"grammatical": 1}, "grammatical is a number, expected true or false"),
    ("/generate", {"grammatical": True}, "grammatical texts need a model of High Valyrian"),
    ("/lens", b"null", "the request is null, expected a JSON object"),
    ("/lens", {"tokens": [1] * 21_001}, "tokens has 21,001 token ids, expected 1 to 21,000"),
    ("/lens", {"tokens": ["1"]}, '"1" is not a token id'),
    ("/attention", {}, "tokens is null, expected an array of token ids"),
    ("/attention", {"tokens": {}}, "tokens is an object, expected an array of token ids"),
    ("/attention", {"tokens": []}, "tokens has 0 token ids, expected 1 to 21,000"),
    ("/attention", {"tokens": [1] * 21_001}, "tokens has 21,001 token ids, expected 1 to 21,000"),
    (
        "/attention",
        {"tokens": [5, 300]},
        "300 is not a token id: expected whole numbers from 0 to 299",
    ),
    ("/attention", {"tokens": [1.5]}, "1.5 is not a token id"),
    ("/attention", {"tokens": [True]}, "true is not a token id"),
    ("/attention", {"tokens": ["1"]}, '"1" is not a token id'),
    ("/check", {}, "text is null, expected a string"),
    ("/gloss", {"text": ["Vala"]}, "text is an array, expected a string"),
    ("/word", {"text": "a\ud800"}, "text is not valid Unicode: it has a lone surrogate"),
    (
        "/check",
        {"text": "a" * 5001},
        "the text is too long: expected at most 5,000 characters, found 5,001; send it in parts",
    ),
]


@pytest.mark.parametrize(
    ("path", "body", "words"), WRONG_REQUESTS, ids=lambda value: str(value)[:40]
)
def test_a_wrong_request_gets_an_error_in_one_line(
    page_server: PageServer, path: str, body: Any, words: str
) -> None:
    status, text = post(page_server.port, path, body)
    assert status == 400
    error = json.loads(text)["error"]
    assert words in error
    assert not re.search(r"\n|sample\.|configuration|python -m", error)


def test_the_language_has_verdicts_glosses_and_entries(page_server: PageServer) -> None:
    sentences = json.loads(post(page_server.port, "/check", {"text": "Kara issa. Blorp!"})[1])
    verdicts = [describe_verdict(verdict) for verdict in check("Kara issa. Blorp!")]
    assert sentences == {"sentences": verdicts}
    words = json.loads(post(page_server.port, "/gloss", {"text": "Vali, blorp"})[1])["words"]
    assert [(word["analysis"], word["known"]) for word in words] == [
        ("man-NOM.PL", True),
        ("?", False),
    ]
    entries = json.loads(post(page_server.port, "/word", {"text": "vali"})[1])["entries"]
    assert [(entry["lemma"], entry["meaning"]) for entry in entries] == [("vala", "man")]
    assert ["nominative", ["vala", "vali", "valun", "valar"]] in entries[0]["tables"][0]["rows"]
    nothing = {"query": "", "entries": [], "nearest": []}
    assert json.loads(post(page_server.port, "/word", {"text": ""})[1]) == nothing


def test_without_a_file_of_inspect_the_heads_are_not_known(page_server: PageServer) -> None:
    assert request(page_server.port, "GET", "/heads") == (200, "null")


def test_a_text_of_mistakes_is_diagnosed_within_a_budget_of_words() -> None:
    text = "Vale ēdrus. Vala ēdrus. Riñe ēdrus. Qzx ēdrus. Taobe ēdrus. Vala ēdrus."
    verdicts = [*check_within(text, words=4)]
    kinds = [verdict.verdict for verdict in verdicts]
    assert kinds == ["mistake", "right", "mistake", "beyond", "beyond", "right"]
    assert "`Qzx` is not a known word" in verdicts[3].reason
    assert "check fewer sentences to learn more" in verdicts[4].reason
    assert [*check_within(text, words=6)] == check(text)


def test_pages_from_other_sites_get_no_text(page_server: PageServer) -> None:
    # DNS rebinding: the other site's name leads to this machine.
    status, text = post(page_server.port, "/generate", vars(SAMPLE), Host="evil.example")
    assert status == 400
    assert "expected 127.0.0.1 or localhost, found 'evil.example'" in json.loads(text)["error"]
    # The types that a page of another site can send without a CORS preflight.
    for content_type in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "text/application/json",
    ):
        headers = {"Content-Type": content_type}
        status, text = post(page_server.port, "/generate", vars(SAMPLE), **headers)
        assert status == 400
        assert "expected Content-Type: application/json" in text


@pytest.mark.parametrize("suffix", ["; charset=utf-8", ";charset=UTF-8", " ; boundary=x"])
def test_json_may_have_parameters(page_server: PageServer, suffix: str) -> None:
    headers = {"Content-Type": "Application/JSON" + suffix}
    assert post(page_server.port, "/attention", {"tokens": [1, 2]}, **headers)[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "host", "status"),
    [
        ("GET", "/", "localhost", 200),
        ("HEAD", "/script.js", "localhost", 200),
        ("GET", "/about", "127.0.0.1", 200),
        ("GET", "/health", "LOCALHOST", 200),
        ("GET", "/generate", "localhost", 405),
        ("GET", "/", "", 400),
        ("GET", "/", "127.0.0.1.evil.example", 400),
        ("POST", "/generate", "localhost", 400),
        ("GET", "/../server.py", "localhost", 404),
        ("GET", "/", "evil.example", 400),
    ],
)
def test_every_response_says_what_the_page_may_load_and_who_may_show_it(
    page_server: PageServer, method: str, path: str, host: str, status: int
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", page_server.port, timeout=60)
    connection.request(method, path, headers={"Host": host})
    response = connection.getresponse()
    connection.close()
    assert response.status == status
    policy = response.headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'self'", "frame-ancestors 'none'"} <= set(policy)
    assert not any("unsafe" in directive for directive in policy)
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"


def test_the_log_has_a_line_for_every_request_but_those_that_only_read(
    endless_directory: Path,
) -> None:
    with start_server(endless_directory) as page_server:
        for path in ("/", "/health", "/v1/models", "/%0a%1b[1mno"):
            request(page_server.port, "GET", path)
        post(page_server.port, "/generate", {"seed": 3, "max_new_tokens": 2})
        post(page_server.port, "/v1/completions", {"seed": 4, "max_tokens": 3, "n": 2})
        post(page_server.port, "/attention", {"tokens": [1]})
        post(page_server.port, "/v1/completions", {"n": 0})
        lines = [page_server.log.readline() for _ in range(5)]
    words = []
    for line in lines:
        match = re.fullmatch(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d (.+ \d+) \d+\.\d{3} s(.*)\n", line
        )
        assert match, line
        words.append(match[1] + match[2])
    assert words == [
        r"GET /\n\x1b[1mno 404",
        "POST /generate 200; seed 3: 2 tokens",
        "POST /v1/completions 200; seed 4: 6 tokens",
        "POST /attention 200",
        "POST /v1/completions 400",
    ]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/completions", "/generate", "/lens", "/v2/models"])
def test_an_unknown_request_gets_an_error_object(
    page_server: PageServer, method: str, path: str
) -> None:
    status, body = request(page_server.port, method, path)
    error = json.loads(body)["error"]
    if status == 400:  # a request of the page without a body
        assert (method, path) in {("POST", "/generate"), ("POST", "/lens")}
    else:
        assert status in (404, 405)
        assert f"expected the page at / or the API under /v1, found {method} {path}" in error


def test_an_empty_name_is_an_error(
    endless_directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, _, err = call(main.main, capsys, monkeypatch, "serve", endless_directory, "--name", " ")
    assert (status, err.count("\n")) == (2, 1)
    assert "--name is empty; expected at least one letter" in err


def test_an_address_or_port_that_cannot_be_used_is_an_error_in_one_line(
    page_server: PageServer,
    endless_directory: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ("serve", endless_directory, "--port", page_server.port)
    status, _, err = call(main.main, capsys, monkeypatch, *command)
    assert (status, err.count("\n")) == (2, 1)
    assert (
        f"cannot listen on 127.0.0.1, port {page_server.port}: Address already in use; "
        "choose another --host or --port"
    ) in err
    for host in ("no.such.host.invalid", "\udcff", "a" * 64, "a..b", ""):
        command = ("serve", endless_directory, "--host", host)
        status, _, err = call(main.main, capsys, monkeypatch, *command)
        assert (status, err.count("\n")) == (2, 1)
        assert "--host" in err
