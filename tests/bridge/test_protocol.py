"""Clients that do nothing hold neither a connection nor a place; the deadlines are short here."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bridge.api import Model
from bridge.web import protocol, server, text_queue
from valyrian_jax.bundle.bundle import Bundle

GET = b"GET /about HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
LONG = json.dumps({"max_new_tokens": 1000, "top_p": 1}).encode()
Start = Callable[[], tuple[server.Server, int]]


@pytest.fixture
def start(endless: Bundle) -> Iterator[Start]:
    """A function that starts a server in a thread and returns it with its port."""
    with contextlib.ExitStack() as stack:

        def start() -> tuple[server.Server, int]:
            listener = server.listen("127.0.0.1", 0)
            page_server = server.create_server(Model(endless), "endless", "127.0.0.1", listener)
            thread = threading.Thread(target=page_server.run, args=([listener],))
            thread.start()
            stack.callback(thread.join)
            stack.callback(setattr, page_server, "should_exit", True)
            return page_server, int(listener.getsockname()[1])

        yield start


def connect(port: int, data: bytes = b"") -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", port))
    connection.sendall(data)
    return connection


def read_to_end(connection: socket.socket, drip: bytes = b"") -> bytes:
    """Return everything until the server closes the connection; send `drip` while it does not."""
    received = b""
    if drip:
        connection.settimeout(0.02)
    with contextlib.suppress(ConnectionError):
        while True:
            try:
                data = connection.recv(1 << 16)
            except TimeoutError:
                assert drip, "the server does not close the connection"
                connection.sendall(drip)
                continue
            if not data:
                break
            received += data
    connection.close()
    return received


def request(port: int, path: str, body: Any = None) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    data = None if body is None else json.dumps(body)
    method = "GET" if body is None else "POST"
    connection.request(method, path, data, {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, response.headers, content


@pytest.mark.parametrize("drip", [b"", b"a"], ids=["silent", "drip"])
@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nHos", b""),
        (POST + b"Content-Length: 100000\r\n\r\n{", b""),
        (GET + b"Content-Length: 100000\r\n\r\n{", b"HTTP/1.1 200"),  # answered, but never complete
    ],
    ids=["nothing", "headers", "body", "answered"],
)
def test_a_request_that_never_ends_loses_its_connection(
    start: Start, monkeypatch: pytest.MonkeyPatch, data: bytes, answer: bytes, drip: bytes
) -> None:
    monkeypatch.setattr(protocol, "REQUEST_TIMEOUT", 0.2)
    assert read_to_end(connect(start()[1], data), drip).startswith(answer)


def test_a_second_request_that_never_ends_loses_its_connection(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "REQUEST_TIMEOUT", 0.2)
    connection = connect(start()[1], GET + b"\r\n")
    assert connection.recv(100).startswith(b"HTTP/1.1 200")
    connection.sendall(b"GET /")
    assert b"HTTP/1.1" not in read_to_end(connection, b"a")


@pytest.mark.parametrize("half", [False, True], ids=["open", "half-closed"])
def test_a_reader_that_takes_nothing_loses_its_place(
    start: Start, monkeypatch: pytest.MonkeyPatch, half: bool
) -> None:
    monkeypatch.setattr(protocol, "READ_TIMEOUT", 0.2)
    monkeypatch.setattr(text_queue, "MAX_TEXTS", 1)
    _, port = start()
    with connect(port, POST + b"Content-Length: %d\r\n\r\n" % len(LONG) + LONG) as reader:
        if half:
            reader.shutdown(socket.SHUT_WR)
        assert request(port, "/generate", {"max_new_tokens": 3})[0] == 200


def test_a_reader_that_takes_nothing_loses_its_connection(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "READ_TIMEOUT", 0.2)
    page_server, port = start()
    connections = page_server.server_state.connections
    with connect(port, (GET + b"\r\n") * 200):
        while not connections:
            pass
        stuck = set(connections)
        for _ in range(20_000):
            assert request(port, "/about")[0] == 200
            if not stuck & connections:
                return
    pytest.fail("the connection stays open")


@pytest.mark.parametrize(("waiting", "words"), [(0, "0 others wait"), (9, "no place was free for")])
def test_a_request_without_a_place_is_told_when_to_try_again(
    start: Start, monkeypatch: pytest.MonkeyPatch, waiting: int, words: str
) -> None:
    monkeypatch.setattr(text_queue, "MAX_TEXTS", 1)
    monkeypatch.setattr(text_queue, "MAX_WAITING", waiting)
    monkeypatch.setattr(text_queue, "PLACE_TIMEOUT", 0.2)
    _, port = start()
    with connect(port, POST + b"Content-Length: %d\r\n\r\n" % len(LONG) + LONG) as reader:
        assert reader.recv(100).startswith(b"HTTP/1.1 200")
        status, headers, content = request(port, "/generate", {})
        assert (status, headers["Retry-After"]) == (503, "15")
        assert words in json.loads(content)["error"]
        status, headers, content = request(port, "/v1/completions", {})
        assert (status, headers["Retry-After"]) == (503, "15")
        assert words in json.loads(content)["error"]["message"]
        assert request(port, "/attention", {"tokens": [1]})[0] == 200


def test_a_burst_of_200_clients_is_served(start: Start) -> None:
    _, port = start()
    barrier = threading.Barrier(200)

    def generate(_: int) -> int:
        barrier.wait()
        return request(port, "/generate", {"max_new_tokens": 2})[0]

    with ThreadPoolExecutor(200) as pool:
        assert set(pool.map(generate, range(200))) == {200}


@pytest.mark.parametrize(
    "data", [b"", b"GET / HTTP/1.1\r\nHos", POST + b"Content-Length: 9\r\n\r\n{"]
)
def test_new_clients_are_served_however_many_connections_wait(
    start: Start, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 4)
    _, port = start()
    idle = [connect(port, data) for _ in range(20)]
    assert request(port, "/about")[0] == 200
    for connection in idle[:16]:
        assert read_to_end(connection) == b""
    for connection in idle[16:]:
        connection.close()


def test_a_request_whose_rest_is_wrong_ends_without_a_traceback(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    connection = connect(start()[1], GET + b"Transfer-Encoding: chunked\r\n\r\n")
    assert connection.recv(100).startswith(b"HTTP/1.1 200")
    connection.sendall(b"not a chunk\r\n")
    read_to_end(connection)
    assert caplog.records == []
