"""The server of the page: an address to listen on, uvicorn, and the signals that end it."""

import contextlib
import ipaddress
import signal
import socket
import sys
from collections.abc import Iterator
from types import FrameType

import click
import uvicorn

from bridge.api import Model
from bridge.web.app import create_app
from bridge.web.heat_map import HeatMap
from bridge.web.protocol import BACKLOG, BoundedProtocol
from valyrian_jax.errors import UserError, escape

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SEND_BUFFER = 1 << 14  # bytes of a text that may wait for its reader in the system
# The page loads nothing from other sites, runs no inline script, and cannot be framed.
_CONTENT_POLICY = (
    "default-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = [
    ("Content-Security-Policy", _CONTENT_POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-cache"),  # A new version of the server needs the new page.
]


class Server(uvicorn.Server):
    """A uvicorn server that leaves signals to `run`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: uvicorn would raise every signal again inside the event loop."""
        yield


def run(model: Model, name: str, host: str, port: int, heat_map: HeatMap | None = None) -> None:
    """Serve the page until SIGINT or SIGTERM; a second signal ends the process at once.

    Args:
        model: Model to serve.
        name: Name of the model on the page and in the protocol.
        host: Address to listen on.
        port: Port to listen on; 0 chooses a free one.
        heat_map: What each head and each MLP does, if it is known.

    Raises:
        UserError: The server cannot listen on the address and port.
        KeyboardInterrupt: SIGINT has ended the server.
    """
    listener = listen(host, port)
    server = create_server(model, name, host, listener, heat_map)
    received: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        received.append(number)
        server.should_exit = True
        for stop_signal in _STOP_SIGNALS:
            signal.signal(stop_signal, signal.SIG_DFL)

    for stop_signal in _STOP_SIGNALS:
        signal.signal(stop_signal, stop)
    port = listener.getsockname()[1]
    url = f"http://{format_host(host)}:{port}/"
    click.echo(f"{escape(name)} is at {url} (API: {url}v1; press Ctrl-C to stop)")
    server.run(sockets=[listener])
    if signal.SIGTERM in received:
        signal.raise_signal(signal.SIGTERM)
        sys.exit(128 + signal.SIGTERM)  # The first process of a container survives the signal.
    raise KeyboardInterrupt


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address and port.

    Raises:
        UserError: The server cannot listen there.
    """
    if not host:
        raise UserError("--host is empty; expected an address, 127.0.0.1 for this machine only")
    try:
        host.encode("idna")  # Fails for malformed UTF-8 and for parts of 64 characters.
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no host has such a name"
        raise UserError(
            f"cannot listen on {host}, port {port}: {reason.partition(' (')[0]}; "
            "choose another --host or --port"
        ) from error
    # With a small buffer, generation waits for a slow reader.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    return listener


def create_server(
    model: Model,
    name: str,
    host: str,
    listener: socket.socket,
    heat_map: HeatMap | None = None,
) -> Server:
    """Create the server of the page for a listening socket; `run` describes the arguments."""
    is_local = ipaddress.ip_address(listener.getsockname()[0]).is_loopback
    names = (format_host(host).lower(), "localhost", "127.0.0.1")
    hosts = [*dict.fromkeys(names)] if is_local else ["*"]
    app = create_app(model, name, hosts, lambda: server.should_exit, heat_map)
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        backlog=BACKLOG,
        headers=HEADERS,
        server_header=False,
        log_level="error",
    )
    server = Server(config)
    return server


def format_host(host: str) -> str:
    """Return a host as in a URL."""
    return f"[{host}]" if ":" in host else host
