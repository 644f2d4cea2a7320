"""The playground's server, over real sockets."""

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
from bridge.web.session import events
from tests.bridge.test_session import SAMPLE
from tests.support.commands import call
from tests.support.serving import Served, serving
from valyrian_jax.bundle.bundle import Bundle


def ask(served: Served, path: str, body: Any, **headers: str) -> tuple[int, str]:
    """Status and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, encoded, {"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    answer = response.read().decode()
    connection.close()
    return response.status, answer


def test_the_server_tells_the_events(served: Served, endless: Bundle, generator: Generator) -> None:
    status, answer = ask(served, "/generate", vars(SAMPLE) | {"judged": False})
    assert status == 200
    for line, expected in zip(
        answer.splitlines(), events(generator, endless.tokenizer, SAMPLE), strict=True
    ):
        told = json.loads(line)
        for share in ("probability", "chance"):  # another process may use more threads
            assert told.pop(share, 0) == pytest.approx(expected.pop(share, 0), rel=1e-4)
        assert [i for i, *_ in told.pop("choices", [])] == [
            i for i, *_ in expected.pop("choices", [])
        ]
        assert told == expected
    assert served.ended(7) == "60 tokens"


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/generate", {"top_p": 0}, "sample.top_p = 0: input should be greater than 0"),
        ("/generate", {"seed": -1}, "sample.seed = -1"),
        ("/generate", {"temperature": 1e-9}, "must be 0 or at least 0.001"),
        ("/generate", {"temprature": 1}, "unknown key sample.temprature"),
        ("/generate", {"prompt": "a\ud800b"}, "the prompt has half a character (a lone surrogate)"),
        (
            "/generate",
            {"prompt": "a" * 5001},
            "the prompt has 5,001, but here at most 5,000; use `python -m bridge gen",
        ),
        ("/generate", {"max_new_tokens": 1001}, "max_new_tokens is 1,001, but here at most 1,000"),
        ("/generate", b"{", "the request is not JSON"),
        ("/generate", b"[" * 100_000, "the request is not JSON"),
        ("/generate", b"[]", "the request is not a JSON object"),
        ("/generate", b" " * 200_000, "the request has more than 131,072 bytes"),
        ("/attention", {}, "tokens must be a list of 1 to"),
        ("/attention", {"tokens": []}, "tokens must be a list of 1 to"),
        (
            "/attention",
            {"tokens": [5, 300]},
            "300 is not a token id; expected whole numbers from 0 to 299",
        ),
        ("/attention", {"tokens": [1.5]}, "1.5 is not a token id"),
        ("/attention", {"tokens": [True]}, "True is not a token id"),
        ("/generate", {"judged": "no"}, "judged is 'no'; expected true or false"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_requests_are_refused_in_one_line(
    served: Served, path: str, body: Any, words: str
) -> None:
    status, answer = ask(served, path, body)
    assert status == 400
    error = json.loads(answer)["error"]
    assert words in error
    assert "\n" not in error


def test_pages_from_elsewhere_cannot_ask(served: Served) -> None:
    assert (
        ask(served, "/generate", vars(SAMPLE), Host="evil.example")[0] == 400
    )  # by a name that leads here
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
    ):  # all that a page may send without asking first
        status, answer = ask(served, "/generate", vars(SAMPLE), **{"Content-Type": kind})
        assert (status, "expected Content-Type: application/json" in answer) == (400, True)


def requested(served: Served, body: bytes, length: int) -> socket.socket:
    """A request for a text by someone who takes little at a time."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.settimeout(60)
    reader.connect(("127.0.0.1", served.port))
    head = [
        "POST /generate HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    ]
    reader.sendall("\r\n".join([*head, "", ""]).encode() + body)
    return reader


def begun(served: Served, seed: int) -> socket.socket:
    """A long text of which only the beginning is read."""
    body = json.dumps({"max_new_tokens": 1000, "seed": seed, "judged": False, "top_p": 1}).encode()
    reader = requested(served, body, len(body))
    assert reader.recv(100).startswith(b"HTTP/1.1 200")
    return reader


def test_slow_readers_block_nobody_and_those_who_leave_are_forgotten(served: Served) -> None:
    slow = [begun(served, seed) for seed in range(100, 100 + server.MOST_OPEN - 1)]
    long, short = {"max_new_tokens": 1000, "seed": 98}, {"max_new_tokens": 5, "seed": 99}
    assert ask(served, "/generate", long)[0] == 200  # beside them
    assert served.ended(98) == "1000 tokens"
    slow.append(begun(served, 107))
    status, answer = ask(served, "/generate", short)
    assert (status, json.loads(answer)["error"][:34]) == (503, "8 texts are being written already;")
    for seed, reader in enumerate(slow, 100):
        reader.close()
        count, rest = served.ended(seed).split(" ", 1)
        assert rest == "tokens, broken off"
        assert int(count) < 1000  # it waited for its reader
    assert ask(served, "/generate", short)[0] == 200


def test_those_who_never_finish_asking_take_nobodys_place(served: Served) -> None:
    silent = [requested(served, b"{", 100) for _ in range(2 * server.MOST_OPEN)]
    assert ask(served, "/generate", {"max_new_tokens": 5})[0] == 200
    for reader in silent:
        reader.close()


def test_interrupting_the_server_ends_its_texts_in_order(endless_directory: Path) -> None:
    with serving(endless_directory) as served, begun(served, 1) as reader:
        served.process.send_signal(signal.SIGINT)
        told = b"".join(iter(lambda: reader.recv(1 << 16), b""))
        assert b'"why": "server"' in told
        assert served.process.wait() == 130
        assert served.process.stderr
        first, *rest = served.process.stderr.read().split("\n")
        assert first.startswith("seed 1: ")
        assert list(filter(None, rest)) == ["interrupted"]


def test_a_port_that_is_taken_is_one_line(
    served: Served,
    endless_directory: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status, _, err = call(
        main.main, capsys, monkeypatch, "serve", endless_directory, "--port", served.port
    )
    assert (status, err.count("\n")) == (2, 1)
    assert (
        f"cannot listen on 127.0.0.1, port {served.port}: Address already in use; choose another --host or --port"
        in err
    )
    status, _, err = call(
        main.main, capsys, monkeypatch, "serve", endless_directory, "--host", "no.such.host.invalid"
    )
    assert (status, err.count("\n")) == (2, 1)
