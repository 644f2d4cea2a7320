"""The application of the page: the events of `bridge.web.session` over HTTP.

GET  /            the page (bridge/web/page: HTML, CSS and JavaScript without a framework)
GET  /about       the model, its default settings, and the limits of a request
GET  /health      {"status": "ok"} while the server takes requests
GET  /heads       what the model loses without each head and MLP, or null
POST /generate    settings -> events, one JSON object per line, as they happen
POST /attention   {"tokens": [...]} -> the attention weights of the last token
POST /lens        {"tokens": [...]} -> what every layer would predict after the last tokens
POST /check       {"text": ...} -> verdicts; /gloss: its words; /word: entries of the dictionary
/v1/...           OpenAI's protocol for completions (bridge.web.completions)
"""

import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from bridge.api import Model
from bridge.inspection import attention_row, lens_table
from bridge.web.completions import create_completion_app, make_error
from bridge.web.description_queue import DescriptionQueue
from bridge.web.heat_map import HeatMap
from bridge.web.language import create_language_routes
from bridge.web.middleware import HostCheck, RequestLog
from bridge.web.protocol import READ_TIMEOUT
from bridge.web.request import (
    MAX_MESSAGE,
    MAX_NEW_TOKENS,
    MAX_PROMPT_CHARACTERS,
    parse_flag,
    parse_settings,
    parse_tokens,
    read_json_body,
)
from bridge.web.session import Event, add_verdicts, stream_events
from bridge.web.text_queue import BusyError, ServerStopError, TextQueue
from valyrian_jax.bundle.grammatical_text import check_speaks_valyrian
from valyrian_jax.bundle.model_card import speaks_valyrian
from valyrian_jax.bundle.names import count_parameters
from valyrian_jax.bundle.text_generation import resolve_sample_config
from valyrian_jax.errors import UserError

PAGE = Path(__file__).parent / "page"
MAX_WORKERS = 2  # steps computed at a time; at most one of them for a description
_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


def create_app(
    model: Model,
    name: str,
    hosts: list[str],
    is_stopping: Callable[[], bool],
    heat_map: HeatMap | None = None,
) -> Starlette:
    """Create the application that serves the page of a model.

    Args:
        model: Model to serve.
        name: Name of the model on the page and in the protocol.
        hosts: Host names that a request may use; "*" allows all.
        is_stopping: Function that returns whether all texts must end now.
        heat_map: What each head and each MLP does, if it is known.
    """
    limiter = anyio.CapacityLimiter(MAX_WORKERS)
    queue, descriptions = TextQueue(limiter, is_stopping), DescriptionQueue(limiter)

    async def send_about(_: Request) -> Response:
        return JSONResponse(describe_model(model, name))

    async def send_health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def send_heads(_: Request) -> Response:
        return JSONResponse(heat_map and heat_map._asdict())

    def parse_ids(body: dict[str, Any]) -> list[int]:
        return parse_tokens(body.get("tokens"), model.config.vocab_size)

    return Starlette(
        routes=[
            Route("/about", send_about),
            Route("/health", send_health),
            Route("/heads", send_heads),
            Route("/generate", GenerateEndpoint(model, queue), methods=["POST"]),
            descriptions.make_route("/attention", parse_ids, partial(describe_attention, model)),
            descriptions.make_route("/lens", parse_ids, partial(describe_lens, model)),
            *create_language_routes(descriptions),
            Mount("/v1", create_completion_app(model, name, queue)),
            Route("/", make_file_endpoint(PAGE / "index.html")),
            *(Route(f"/{file.name}", make_file_endpoint(file)) for file in PAGE.iterdir()),
        ],
        middleware=[Middleware(RequestLog), Middleware(HostCheck, hosts, refuse_host)],
        exception_handlers={
            UserError: send_error,
            BusyError: send_busy,
            HTTPException: send_http_error,
        },
    )


def make_file_endpoint(file: Path) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that sends a file of the page, read once."""
    content, media_type = file.read_bytes(), _MEDIA_TYPES[file.suffix]

    async def send_file(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return send_file


class GenerateEndpoint:
    """The endpoint that streams texts to the page."""

    def __init__(self, model: Model, queue: TextQueue) -> None:
        self._model, self._queue = model, queue
        self._has_grammar = speaks_valyrian(model.bundle.manifest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream one text to the sender of the request."""
        request = Request(scope, receive)
        settings = await read_json_body(request)
        has_verdicts = parse_flag("check", settings.pop("check", self._has_grammar))
        grammatical = parse_flag("grammatical", settings.pop("grammatical", False))
        if grammatical:
            check_speaks_valyrian(self._model.bundle)
        sample = parse_settings(self._model.bundle, settings)
        generator, tokenizer = self._model.generator, self._model.tokenizer
        events = stream_events(generator, tokenizer, sample, grammatical)
        steps = self._queue.iterate(
            add_verdicts(events) if has_verdicts else events,
            lambda event: event["kind"] == "token",
            lambda note: scope["notes"].append(f"seed {sample.seed}: {note}"),
        )
        # Without aclosing, a text whose reader has left would end only at a garbage collection.
        async with self._queue.places.take(), contextlib.aclosing(steps):
            if not await request.is_disconnected():
                lines = encode_events(steps)
                response = StreamingResponse(lines, media_type="application/x-ndjson")
                await response(scope, receive, send)


async def encode_events(events: AsyncGenerator[Event, None]) -> AsyncGenerator[str, None]:
    """Yield events as lines of JSON."""
    try:
        async for event in events:
            yield json.dumps(event) + "\n"
    except ServerStopError:
        yield json.dumps({"kind": "end", "text": "", "why": "server"}) + "\n"


def describe_model(model: Model, name: str) -> dict[str, Any]:
    """Describe the model, its default settings, and the limits of a request."""
    config = model.config
    return {
        "name": name,
        "layers": config.n_layer,
        "heads": config.n_head,
        "width": config.n_embd,
        "context": config.n_positions,
        "vocabulary": config.vocab_size,
        "parameters": count_parameters(config),
        "settings": vars(resolve_sample_config(model.bundle, {})),
        "has_grammar": speaks_valyrian(model.bundle.manifest),
        "most_characters": MAX_PROMPT_CHARACTERS,
        "most_tokens": MAX_NEW_TOKENS,
    }


def describe_attention(model: Model, tokens: list[int]) -> dict[str, Any]:
    """Describe the attention of the last token: weights[layer][head][token]."""
    start, weights = attention_row(model.generator, tokens)
    rounded = [
        [[round(weight, 4) for weight in head] for head in layer] for layer in weights.tolist()
    ]
    return {"start": start, "weights": rounded}


def describe_lens(model: Model, tokens: list[int]) -> dict[str, Any]:
    """Describe the predictions after the last tokens, and their probabilities: [layer][token]."""
    start, lens = lens_table(model.generator, model.tokenizer, tokens)
    probabilities = lens.probabilities[..., 0].round(4).astype(float).tolist()
    return {"start": start, "predictions": lens.predictions, "probabilities": probabilities}


async def send_error(_: Request, error: Exception) -> Response:
    """Report a wrong request in one line of limited length; it can quote what was sent."""
    return JSONResponse({"error": " ".join(str(error).split())[:MAX_MESSAGE]}, 400)


async def send_http_error(request: Request, error: Exception) -> Response:
    """Report a path or a method that the server does not have."""
    assert isinstance(error, HTTPException)
    message = (
        f"unknown request: expected the page at / or the API under /v1, found {request.method} "
        f"{request.url.path[:MAX_MESSAGE]}; see bridge/README.md"
    )
    return JSONResponse({"error": message}, error.status_code, error.headers)


def refuse_host(path: str, message: str) -> Response:
    """Report that a request is for another host, in the form of the errors of its path."""
    if path.startswith("/v1/"):
        return make_error(message, "invalid_request_error", 400)
    return JSONResponse({"error": message}, 400)


async def send_busy(_: Request, error: Exception) -> Response:
    """Report that there is no place for a request."""
    return JSONResponse({"error": str(error)}, 503, {"Retry-After": f"{READ_TIMEOUT:.0f}"})
