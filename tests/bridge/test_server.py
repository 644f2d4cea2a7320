"""The page's server behaves over real sockets."""

import http.client
import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from bridge import __main__ as main
from bridge.generator import Generator
from bridge.web import server
from bridge.web.session import stream_events
from tests.support.commands import call
from tests.support.serving import SAMPLE, PageServer, start_server
from valyrian_jax.bundle.bundle import Bundle


def post(page_server: PageServer, path: str, body: Any, **headers: str) -> tuple[int, str]:
    """Return the status and the body of a response."""
    connection = http.client.HTTPConnection("127.0.0.1", page_server.port, timeout=60)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, data, {"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def test_the_server_sends_the_events_of_the_session(
    page_server: PageServer, endless: Bundle, generator: Generator
) -> None:
    status, body = post(page_server, "/generate", vars(SAMPLE) | {"judged": False})
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


WRONG_REQUESTS: list[tuple[str, Any, str]] = [
    ("/generate", {"top_p": 0}, "sample.top_p = 0: input should be greater than 0"),
    ("/generate", {"seed": -1}, "sample.seed = -1"),
    ("/generate", {"temperature": 1e-9}, "must be 0 or at least 0.001"),
    ("/generate", {"temprature": 1}, "unknown key sample.temprature"),
    ("/generate", {"prompt": "a\ud800b"}, "the prompt is not valid Unicode"),
    (
        "/generate",
        {"prompt": "a" * 5001},
        "the prompt is too long: expected at most 5,000 characters, found 5,001; use `python -m",
    ),
    (
        "/generate",
        {"max_new_tokens": 1001},
        "max_new_tokens is too large: expected at most 1,000 tokens, found 1,001",
    ),
    ("/generate", b"{", "the request is not JSON"),
    ("/generate", b"[" * 100_000, "the request is not JSON"),
    ("/generate", b"[]", "the request is not a JSON object"),
    ("/generate", b" " * 200_000, "the request has more than 131,072 bytes"),
    ("/generate", {"judged": "no"}, "judged is 'no'; expected true or false"),
    ("/attention", {}, "tokens must be a list of 1 to"),
    ("/attention", {"tokens": []}, "tokens must be a list of 1 to"),
    (
        "/attention",
        {"tokens": [5, 300]},
        "300 is not a token id; expected whole numbers from 0 to 299",
    ),
    ("/attention", {"tokens": [1.5]}, "1.5 is not a token id"),
    ("/attention", {"tokens": [True]}, "True is not a token id"),
]


@pytest.mark.parametrize(
    ("path", "body", "words"), WRONG_REQUESTS, ids=lambda value: str(value)[:40]
)
def test_a_wrong_request_gets_an_error_in_one_line(
    page_server: PageServer, path: str, body: Any, words: str
) -> None:
    status, text = post(page_server, path, body)
    assert status == 400
    error = json.loads(text)["error"]
    assert words in error
    assert "\n" not in error


def test_pages_from_other_sites_get_no_text(page_server: PageServer) -> None:
    # DNS rebinding: the other site's name leads to this machine.
    assert post(page_server, "/generate", vars(SAMPLE), Host="evil.example")[0] == 400
    # The types that a page of another site can send without a CORS preflight.
    for content_type in ("text/plain", "application/x-www-form-urlencoded"):
        headers = {"Content-Type": content_type}
        status, text = post(page_server, "/generate", vars(SAMPLE), **headers)
        assert status == 400
        assert "expected Content-Type: application/json" in text


def send_request(page_server: PageServer, body: bytes, content_length: int) -> socket.socket:
    """Request a text over a connection that receives only little at a time."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", page_server.port))
    lines = [
        "POST /generate HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {content_length}",
    ]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    return connection


def start_long_text(page_server: PageServer, seed: int) -> socket.socket:
    """Request a long text and receive only its beginning."""
    settings = {"max_new_tokens": 1000, "seed": seed, "judged": False, "top_p": 1}
    body = json.dumps(settings).encode()
    connection = send_request(page_server, body, len(body))
    assert connection.recv(100).startswith(b"HTTP/1.1 200")
    return connection


def test_slow_readers_delay_nobody_and_texts_end_when_their_readers_leave(
    page_server: PageServer,
) -> None:
    seeds = range(100, 100 + server.MAX_STREAMS - 1)
    readers = {seed: start_long_text(page_server, seed) for seed in seeds}
    assert post(page_server, "/generate", {"max_new_tokens": 1000, "seed": 98})[0] == 200
    assert page_server.wait_for_end(98) == "1000 tokens"
    readers[107] = start_long_text(page_server, 107)
    short = {"max_new_tokens": 5, "seed": 99}
    status, text = post(page_server, "/generate", short)
    assert status == 503
    assert json.loads(text)["error"].startswith("8 texts are in progress")
    for seed, reader in readers.items():
        reader.close()
        count, rest = page_server.wait_for_end(seed).split(" ", 1)
        assert rest == "tokens, stopped early"
        assert int(count) < 1000  # The text waited for its reader.
    assert post(page_server, "/generate", short)[0] == 200


def test_incomplete_requests_do_not_count_as_texts(page_server: PageServer) -> None:
    silent = [send_request(page_server, b"{", 100) for _ in range(2 * server.MAX_STREAMS)]
    assert post(page_server, "/generate", {"max_new_tokens": 5})[0] == 200
    for connection in silent:
        connection.close()


def test_ctrl_c_ends_texts_with_an_event_and_no_traceback(endless_directory: Path) -> None:
    with start_server(endless_directory) as page_server, start_long_text(page_server, 1) as reader:
        page_server.process.send_signal(signal.SIGINT)
        body = b"".join(iter(lambda: reader.recv(1 << 16), b""))
        assert b'"why": "server"' in body
        assert page_server.process.wait() == 130
        assert page_server.process.stderr
        first, *rest = page_server.process.stderr.read().split("\n")
        assert first.startswith("seed 1: ")
        assert list(filter(None, rest)) == ["interrupted"]


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
    command = ("serve", endless_directory, "--host", "no.such.host.invalid")
    status, _, err = call(main.main, capsys, monkeypatch, *command)
    assert (status, err.count("\n")) == (2, 1)
