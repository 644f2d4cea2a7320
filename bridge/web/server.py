"""A local page to play with a model: what `bridge.web.session` tells, over HTTP.

    GET  /            the page (bridge/page: plain HTML, CSS and JavaScript)
    GET  /about       what the model is, how it draws unless told otherwise, and what may be asked of it
    POST /generate    settings -> events, one JSON object a line, as they come
    POST /attention   {"tokens": [...]} -> where the last of them looks

Every step of a generation runs in a worker thread of its own, so a slow reader keeps nobody waiting, and one that has
gone is noticed at the next step.
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
from bridge.web import session
from bridge.web.session import Event, attention_row, with_verdicts
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.text_generation import resolve_sample_config
from valyrian_jax.config import SampleConfig
from valyrian_jax.errors import UserError

PAGE = Path(__file__).parent / "page"
MOST_CHARACTERS, MOST_TOKENS = 5_000, 1_000  # of a prompt; of what follows it
MOST_OPEN, MOST_WORKING = (
    8,
    2,
)  # texts that are written at a time; steps that are computed at a time
MOST_SECONDS = 300.0  # for one text
_MOST_BYTES, _MOST_WAIT = 1 << 17, 10.0  # of a request; seconds until it has come
_AHEAD = 1 << 16  # bytes that may be written and not yet read


def app(bundle: Bundle, name: str, hosts: list[str], stopping: Callable[[], bool]) -> Starlette:
    """The server of a model's page.

    Args:
        bundle: the model.
        name: what the page calls it.
        hosts: under which names it may be asked for; "*": any. A page from elsewhere cannot reach it by another name.
        stopping: whether texts have to end now.
    """
    generator, working = Generator(bundle), anyio.CapacityLimiter(MOST_WORKING)

    async def about(_: Request) -> Response:
        return JSONResponse(description(bundle, name))

    async def attention(request: Request) -> Response:
        tokens = checked_tokens((await body(request)).get("tokens"), bundle.model.vocab_size)
        start, weights = await anyio.to_thread.run_sync(
            attention_row, generator, tokens, limiter=working
        )
        rounded = [
            [[round(weight, 4) for weight in head] for head in layer] for layer in weights.tolist()
        ]
        return JSONResponse({"start": start, "weights": rounded})

    return Starlette(
        routes=[
            Route("/about", about),
            Route("/generate", Writing(bundle, generator, working, stopping), methods=["POST"]),
            Route("/attention", attention, methods=["POST"]),
            Mount("/", StaticFiles(directory=PAGE, html=True)),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        exception_handlers={UserError: refuse},
    )


class Writing:
    """Answers requests for texts, at most `MOST_OPEN` at a time."""

    def __init__(
        self,
        bundle: Bundle,
        generator: Generator,
        working: anyio.CapacityLimiter,
        stopping: Callable[[], bool],
    ) -> None:
        self._bundle, self._generator = bundle, generator
        self._working, self._stopping = working, stopping
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = await body(Request(scope, receive))
        judged = asked.pop("judged", True)
        if not isinstance(judged, bool):
            raise UserError(f"judged is {judged!r}; expected true or false")
        sample = settings(self._bundle, asked)
        if self._open == MOST_OPEN:
            said = {
                "error": f"{MOST_OPEN} texts are being written already; wait for one of them to end"
            }
            await JSONResponse(said, 503)(scope, receive, send)
            return
        told = session.events(self._generator, self._bundle.tokenizer, sample)
        lines = self._lines(with_verdicts(told) if judged else told, f"seed {sample.seed}")
        self._open += 1
        try:
            with anyio.move_on_after(2 * MOST_SECONDS):  # for readers who stay and do not read
                await StreamingResponse(lines, media_type="application/x-ndjson")(
                    scope, receive, send
                )
        finally:
            self._open -= 1

    async def _lines(self, events: Iterator[Event], what: str) -> AsyncIterator[str]:
        """Events as lines of JSON, each computed in a worker thread; how it ended is printed."""
        count, how, latest = 0, ", broken off", anyio.current_time() + MOST_SECONDS
        try:
            while event := await anyio.to_thread.run_sync(
                next, events, None, limiter=self._working
            ):
                count += event["kind"] == "token"
                yield json.dumps(event) + "\n"
                if self._stopping() or anyio.current_time() > latest:
                    yield json.dumps({"kind": "end", "text": "", "why": "server"}) + "\n"
                    return
            how = ""
        finally:
            with contextlib.suppress(OSError):  # nobody may be reading that
                click.echo(f"{what}: {count} tokens{how}", err=True)


def description(bundle: Bundle, name: str) -> dict[str, Any]:
    """What the page has to know before it asks for anything."""
    m = bundle.model
    return {
        "name": name,
        "layers": m.n_layer,
        "heads": m.n_head,
        "width": m.n_embd,
        "context": m.n_positions,
        "vocabulary": m.vocab_size,
        "parameters": sum(tensor.size for tensor in bundle.tensors.values()),
        "settings": vars(resolve_sample_config(bundle, {})),
        "most_characters": MOST_CHARACTERS,
        "most_tokens": MOST_TOKENS,
    }


async def body(request: Request) -> dict[str, Any]:
    """The JSON object in a request.

    Raises:
        UserError: there is none, it is too large, or it does not come.
    """
    # Which a page from elsewhere can only send after asking, and that is refused.
    if request.headers.get("content-type") != "application/json":
        raise UserError("the request is not JSON: expected Content-Type: application/json")
    read = b""
    try:
        with anyio.fail_after(_MOST_WAIT):
            async for chunk in request.stream():
                read += chunk
                if len(read) > _MOST_BYTES:
                    raise UserError(
                        f"the request has more than {_MOST_BYTES:,} bytes; ask for less"
                    )
        found = json.loads(read)
    except (TimeoutError, ClientDisconnect) as error:
        raise UserError(f"the request did not come within {_MOST_WAIT:.0f} s") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"the request is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UserError("the request is not a JSON object")
    return found


def settings(bundle: Bundle, asked: dict[str, Any]) -> SampleConfig:
    """How to draw, as asked for.

    Raises:
        UserError: a setting is unknown, wrong, or more than a page may ask for.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in str(asked.get("prompt"))):
        raise UserError("the prompt has half a character (a lone surrogate); send whole ones")
    sample = resolve_sample_config(bundle, asked)
    for what, found, most in (
        ("the prompt has", len(sample.prompt), MOST_CHARACTERS),
        ("max_new_tokens is", sample.max_new_tokens, MOST_TOKENS),
    ):
        if found > most:
            raise UserError(
                f"{what} {found:,}, but here at most {most:,}; use `python -m bridge generate` for more"
            )
    return sample


def checked_tokens(tokens: Any, vocab_size: int) -> list[int]:
    """Token ids that someone sent.

    Raises:
        UserError: they are none, or too many.
    """
    most = MOST_CHARACTERS * 4 + MOST_TOKENS
    if not isinstance(tokens, list) or not 0 < len(tokens) <= most:
        raise UserError(f"tokens must be a list of 1 to {most:,} token ids")
    for token in tokens:
        if not (type(token) is int and 0 <= token < vocab_size):
            raise UserError(
                f"{token!r} is not a token id; expected whole numbers from 0 to {vocab_size - 1}"
            )
    return tokens


async def refuse(_: Request, error: Exception) -> Response:
    """A mistake in a request, in one line."""
    return JSONResponse({"error": str(error)}, 400)


def run(bundle: Bundle, name: str, host: str, port: int) -> None:
    """Serve the page until interrupted.

    Args:
        bundle: the model.
        name: what the page calls it.
        host: address to listen on.
        port: to listen on; 0: any that is free.

    Raises:
        UserError: nothing can listen there.
    """
    try:
        if not host:
            raise UserError("--host is empty; expected an address, 127.0.0.1 for this machine only")
        listening = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
        listening.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDBUF, _AHEAD
        )  # so that nothing is written in vain
    except OSError as error:
        why = (error.strerror or "").partition(" (")[0]
        raise UserError(
            f"cannot listen on {host}, port {port}: {why}; choose another --host or --port"
        ) from error
    address, port = listening.getsockname()[:2]
    at = f"[{host}]" if ":" in host else host
    hosts = [at, "localhost", "127.0.0.1"] if ipaddress.ip_address(address).is_loopback else ["*"]
    served = app(bundle, name, hosts, lambda: server.should_exit)
    server = uvicorn.Server(
        uvicorn.Config(served, log_level="warning", timeout_graceful_shutdown=1)
    )
    click.echo(f"{name} is at http://{at}:{port}/ (Ctrl-C ends it)")
    server.run(sockets=[listening])
