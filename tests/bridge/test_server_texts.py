"""Texts in progress wait for their readers, and end when a reader or the server stops."""

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bridge.web import text_queue
from tests.support.commands import ROOT
from tests.support.serving import PageServer, post, request, start_server


def send_request(
    port: int, body: bytes, content_length: int, path: str = "/generate"
) -> socket.socket:
    """Request a text over a connection that receives only little at a time."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", port))
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {content_length}",
    ]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    return connection


def start_long_text(port: int, seed: int) -> socket.socket:
    """Request a long text and receive only its beginning."""
    settings = {"max_new_tokens": 1000, "seed": seed, "check": False, "top_p": 1}
    body = json.dumps(settings).encode()
    connection = send_request(port, body, len(body))
    assert connection.recv(100).startswith(b"HTTP/1.1 200")
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    """Return everything that arrives until the server closes a connection."""
    with connection:
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def test_slow_readers_delay_nobody_and_their_texts_end_when_they_leave(
    page_server: PageServer,
) -> None:
    seeds = range(100, 100 + text_queue.MAX_TEXTS - 1)
    readers = {seed: start_long_text(page_server.port, seed) for seed in seeds}
    assert post(page_server.port, "/generate", {"max_new_tokens": 300, "seed": 98})[0] == 200
    assert page_server.wait_for_end(98) == "300 tokens"
    readers[107] = start_long_text(page_server.port, 107)
    with ThreadPoolExecutor() as pool:
        short = {"max_new_tokens": 5, "seed": 99}
        waiting = [pool.submit(post, page_server.port, "/generate", short) for _ in range(4)]
        for seed, reader in readers.items():
            reader.close()
            count, rest = page_server.wait_for_end(seed).split(" ", 1)
            assert rest == "tokens, stopped early"
            assert int(count) < 1000  # The text waited for its reader.
        assert [future.result()[0] for future in waiting] == [200] * 4


def test_incomplete_requests_do_not_count_as_texts(page_server: PageServer) -> None:
    silent = [send_request(page_server.port, b"{", 100) for _ in range(2 * text_queue.MAX_TEXTS)]
    assert post(page_server.port, "/generate", {"max_new_tokens": 5})[0] == 200
    for connection in silent:
        connection.close()


def test_a_second_ctrl_c_ends_the_process_at_once(endless_directory: Path) -> None:
    with start_server(endless_directory) as page_server, start_long_text(page_server.port, 1):
        page_server.send_signal(signal.SIGINT)
        with contextlib.suppress(ConnectionRefusedError):
            while True:  # until the first signal has arrived
                socket.create_connection(("127.0.0.1", page_server.port)).close()
        page_server.send_signal(signal.SIGINT)
        assert page_server.wait() in (-signal.SIGINT, 130)
        lines = page_server.log.read().splitlines()
        assert all("; seed 1: " in line for line in lines if line and line != "interrupted")


def test_sigterm_answers_texts_in_progress_and_requests_that_wait(endless_directory: Path) -> None:
    requests = [
        ("/v1/completions", {"max_tokens": 1000}),
        ("/v1/completions", {"max_tokens": 1000, "stream": True}),
        ("/generate", {"max_new_tokens": 1000}),
    ]
    with start_server(endless_directory) as page_server:
        readers = [start_long_text(page_server.port, seed) for seed in range(text_queue.MAX_TEXTS)]
        bodies = [(path, json.dumps(settings).encode()) for path, settings in requests]
        waiting = [send_request(page_server.port, body, len(body), path) for path, body in bodies]
        with socket.create_connection(("127.0.0.1", page_server.port)) as health:
            health.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert health.recv(100).startswith(b"HTTP/1.1 200")  # The others have arrived, too.
        page_server.send_signal(signal.SIGTERM)
        for reader in readers:
            assert b'"why": "server"' in read_to_end(reader)
        whole, stream, page = map(read_to_end, waiting)
        assert whole.startswith(b"HTTP/1.1 503")
        assert b"the server stopped the text" in whole
        assert stream.startswith(b"HTTP/1.1 200")
        assert b'"error": {"message": "the server stopped the text' in stream
        assert b"data: [DONE]" in stream
        assert b'"why": "server"' in page
        assert page_server.wait() == -signal.SIGTERM


def test_the_command_says_where_its_api_is_and_ends_texts_at_ctrl_c(
    endless_directory: Path,
) -> None:
    command = [sys.executable, "-m", "bridge", "serve", endless_directory, "--port", "0"]
    with subprocess.Popen(
        [*command, "--name", "my Ȳdra"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        assert found, line
        url, port = found[0], int(found[1])
        assert line == f"my Ȳdra is at {url} (API: {url}v1; press Ctrl-C to stop)\n"
        assert json.loads(request(port, "GET", "/about")[1])["name"] == "my Ȳdra"
        assert json.loads(request(port, "GET", "/v1/models")[1])["data"][0]["id"] == "my Ȳdra"
        reader = start_long_text(port, 1)
        process.send_signal(signal.SIGINT)
        assert b'"why": "server"' in read_to_end(reader)
        _, log = process.communicate()
    assert process.returncode == 130
    first, last = filter(None, log.splitlines())
    assert "; seed 1: " in first
    assert last == "interrupted"
