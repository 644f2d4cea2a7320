"""A local page that shows how a model generates: the events of `bridge.web.session` over HTTP.

    GET  /            the page (bridge/web/page: HTML, CSS and JavaScript without a framework)
    GET  /about       the model, its default settings, and the limits of a request
    POST /generate    settings -> events, one JSON object per line, as they happen
    POST /attention   {"tokens": [...]} -> the attention weights of the last token

A worker thread computes each step of a generation. A slow reader therefore delays nobody, and the
server notices at the next step that a reader has disconnected.
"""

import contextlib
import ipaddress
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import click
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from bridge.generator import Generator
from bridge.web.session import Event, add_verdicts, attention_row, stream_events
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.text_generation import resolve_sample_config
from valyrian_jax.config import SampleConfig
from valyrian_jax.errors import UserError, escape

PAGE = Path(__file__).parent / "page"
MAX_PROMPT_CHARACTERS = 5_000
MAX_NEW_TOKENS = 1_000
MAX_STREAMS = 8  # texts in progress
MAX_WORKERS = 2  # steps computed at a time
MAX_SECONDS = 300.0  # for one text
_MAX_BODY_BYTES = 1 << 17
_BODY_TIMEOUT = 10.0  # seconds until the whole request has arrived
_SEND_BUFFER = 1 << 16  # bytes of a text that may wait for its reader


def create_app(
    bundle: Bundle, name: str, hosts: list[str], is_stopping: Callable[[], bool]
) -> Starlette:
    """Create the application that serves the page of a model.

    Args:
        bundle: Model to serve.
        name: Name of the model on the page.
        hosts: Host names that a request may use; "*" allows all. The list stops other sites from
            reaching the server under their own names (DNS rebinding).
        is_stopping: Whether all texts must end now.
    """
    generator, limiter = Generator(bundle), anyio.CapacityLimiter(MAX_WORKERS)

    async def send_about(_: Request) -> Response:
        return JSONResponse(describe_model(bundle, name))

    async def send_attention(request: Request) -> Response:
        settings = await read_json_body(request)
        tokens = parse_tokens(settings.get("tokens"), bundle.model.vocab_size)
        start, weights = await anyio.to_thread.run_sync(
            attention_row, generator, tokens, limiter=limiter
        )
        rounded = [
            [[round(weight, 4) for weight in head] for head in layer] for layer in weights.tolist()
        ]
        return JSONResponse({"start": start, "weights": rounded})

    generate = GenerateEndpoint(bundle, generator, limiter, is_stopping)
    return Starlette(
        routes=[
            Route("/about", send_about),
            Route("/generate", generate, methods=["POST"]),
            Route("/attention", send_attention, methods=["POST"]),
            Mount("/", StaticFiles(directory=PAGE, html=True)),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        exception_handlers={UserError: send_error},
    )


class GenerateEndpoint:
    """The endpoint that streams texts, at most `MAX_STREAMS` at a time."""

    def __init__(
        self,
        bundle: Bundle,
        generator: Generator,
        limiter: anyio.CapacityLimiter,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._bundle, self._generator = bundle, generator
        self._limiter, self._is_stopping = limiter, is_stopping
        self._streams = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream one text to the sender of the request."""
        settings = await read_json_body(Request(scope, receive))
        is_judged = settings.pop("judged", True)
        if not isinstance(is_judged, bool):
            raise UserError(f"judged is {is_judged!r}; expected true or false")
        sample = parse_settings(self._bundle, settings)
        if self._streams == MAX_STREAMS:
            error = f"{MAX_STREAMS} texts are in progress, which is the limit; wait for one to end"
            await JSONResponse({"error": error}, 503)(scope, receive, send)
            return
        events = stream_events(self._generator, self._bundle.tokenizer, sample)
        lines = self._encode(add_verdicts(events) if is_judged else events, f"seed {sample.seed}")
        response = StreamingResponse(lines, media_type="application/x-ndjson")
        self._streams += 1
        try:
            # Sending waits for the reader, so a reader that stops reading needs its own limit.
            with anyio.move_on_after(2 * MAX_SECONDS):
                await response(scope, receive, send)
        finally:
            self._streams -= 1

    async def _encode(self, events: Iterator[Event], label: str) -> AsyncIterator[str]:
        """Yield events as lines of JSON, each computed in a worker thread, and log the end."""
        count, suffix, deadline = 0, ", stopped early", anyio.current_time() + MAX_SECONDS
        try:
            while event := await anyio.to_thread.run_sync(
                next, events, None, limiter=self._limiter
            ):
                count += event["kind"] == "token"
                yield json.dumps(event) + "\n"
                if self._is_stopping() or anyio.current_time() > deadline:
                    yield json.dumps({"kind": "end", "text": "", "why": "server"}) + "\n"
                    return
            suffix = ""
        finally:
            with contextlib.suppress(OSError):  # Standard error may be closed.
                click.echo(f"{label}: {count} tokens{suffix}", err=True)


def describe_model(bundle: Bundle, name: str) -> dict[str, Any]:
    """Describe the model, its default settings, and the limits of a request."""
    config = bundle.model
    return {
        "name": name,
        "layers": config.n_layer,
        "heads": config.n_head,
        "width": config.n_embd,
        "context": config.n_positions,
        "vocabulary": config.vocab_size,
        "parameters": sum(tensor.size for tensor in bundle.tensors.values()),
        "settings": vars(resolve_sample_config(bundle, {})),
        "most_characters": MAX_PROMPT_CHARACTERS,
        "most_tokens": MAX_NEW_TOKENS,
    }


async def read_json_body(request: Request) -> dict[str, Any]:
    """Read the JSON object in the body of a request.

    Raises:
        UserError: The body is too large, too slow, or not a JSON object.
    """
    # A page from another site may send JSON only after a CORS preflight, and this server has none.
    if request.headers.get("content-type") != "application/json":
        raise UserError("the request is not JSON: expected Content-Type: application/json")
    body = b""
    try:
        with anyio.fail_after(_BODY_TIMEOUT):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MAX_BODY_BYTES:
                    raise UserError(
                        f"the request has more than {_MAX_BODY_BYTES:,} bytes; shorten the prompt"
                    )
        value = json.loads(body)
    except (TimeoutError, ClientDisconnect) as error:
        raise UserError(
            f"the request did not arrive within {_BODY_TIMEOUT:.0f} s; send it again"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"the request is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"the request is not a JSON object: found a {type(value).__name__}")
    return value


def parse_settings(bundle: Bundle, settings: dict[str, Any]) -> SampleConfig:
    """Return the sampling settings of a request; the bundle's settings are the defaults.

    Raises:
        UserError: A setting is unknown, wrong, or above the limit of the page.
    """
    if any("\ud800" <= character <= "\udfff" for character in str(settings.get("prompt"))):
        raise UserError("the prompt is not valid Unicode: it has a lone surrogate; remove it")
    sample = resolve_sample_config(bundle, settings)
    for problem, unit, count, limit in (
        ("the prompt is too long", "characters", len(sample.prompt), MAX_PROMPT_CHARACTERS),
        ("max_new_tokens is too large", "tokens", sample.max_new_tokens, MAX_NEW_TOKENS),
    ):
        if count > limit:
            raise UserError(
                f"{problem}: expected at most {limit:,} {unit}, found {count:,}; "
                "use `python -m bridge generate` instead of the page"
            )
    return sample


def parse_tokens(tokens: Any, vocab_size: int) -> list[int]:
    """Return the token ids of a request.

    Raises:
        UserError: The value is not a list of token ids, or the list is too long.
    """
    limit = MAX_PROMPT_CHARACTERS * 4 + MAX_NEW_TOKENS
    if not isinstance(tokens, list) or not 0 < len(tokens) <= limit:
        raise UserError(f"tokens must be a list of 1 to {limit:,} token ids")
    for token in tokens:
        if not (type(token) is int and 0 <= token < vocab_size):
            raise UserError(
                f"{token!r} is not a token id; expected whole numbers from 0 to {vocab_size - 1}"
            )
    return tokens


async def send_error(_: Request, error: Exception) -> Response:
    """Report a wrong request in one line."""
    return JSONResponse({"error": str(error)}, 400)


def run(bundle: Bundle, name: str, host: str, port: int) -> None:
    """Serve the page until interrupted.

    Args:
        bundle: Model to serve.
        name: Name of the model on the page.
        host: Address to listen on.
        port: Port to listen on; 0 chooses a free one.

    Raises:
        UserError: The server cannot listen on the address and port.
    """
    try:
        if not host.isprintable() or not host:
            raise UserError(
                f"--host is {host!r}; expected an address, 127.0.0.1 for this machine only"
            )
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
        # A small buffer makes the generation wait for its reader.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    except (OSError, TypeError, ValueError) as error:  # the others: no host has such a name
        reason = error.strerror if isinstance(error, OSError) else "not the name of a host"
        reason = (reason or "").partition(" (")[0]
        raise UserError(
            f"cannot listen on {host}, port {port}: {reason}; choose another --host or --port"
        ) from error
    address, port = listener.getsockname()[:2]
    url_host = f"[{host}]" if ":" in host else host
    is_local = ipaddress.ip_address(address).is_loopback
    hosts = [url_host, "localhost", "127.0.0.1"] if is_local else ["*"]
    app = create_app(bundle, name, hosts, lambda: server.should_exit)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    click.echo(f"{escape(name)} is at http://{url_host}:{port}/ (press Ctrl-C to stop)")
    server.run(sockets=[listener])
