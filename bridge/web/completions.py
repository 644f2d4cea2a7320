"""OpenAI's protocol for completions, so that programs written for it can use the model.

    GET  /v1/models         the model that is served
    GET  /v1/models/{id}    the same, by its name
    POST /v1/completions    texts, as one JSON object or as a stream of server-sent events

Every error is the protocol's error object. `bridge.web.completion_request` lists the fields.
"""

import contextlib
import functools
import json
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

import click
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bridge.generator import Generator
from bridge.web.completion_request import (
    CompletionError,
    CompletionRequest,
    check_model,
    parse_completion,
)
from bridge.web.completion_texts import Piece, TokenScore, stream_choices
from bridge.web.protocol import READ_TIMEOUT
from bridge.web.request import read_json_body, shorten
from bridge.web.text_line import MAX_TEXTS, BusyError, ServerStopError, TextLine
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.memory import GENERATION_BYTES, count_texts
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer

Endpoint = Callable[[Request], Awaitable[Response]]


def make_completion_routes(
    bundle: Bundle, name: str, generator: Generator, line: TextLine
) -> list[Route]:
    """Return the routes of the protocol.

    Args:
        bundle: Model to serve.
        name: Its name in the protocol.
        generator: The model, ready to generate.
        line: The places for texts, which the page uses too.
    """
    model = {
        "id": name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "valyrian-gpt",
    }
    max_choices = count_texts(bundle.model, GENERATION_BYTES // MAX_TEXTS)

    async def list_models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [model]})

    async def send_model(request: Request) -> Response:
        check_model(request.path_params["model"], name)
        return JSONResponse(model)

    async def complete(request: Request) -> Response:
        body = await read_json_body(request)
        wanted = parse_completion(bundle, name, max_choices, body)
        answer = CompletionAnswer(bundle.tokenizer, name, wanted)
        pieces = _generate(generator, bundle.tokenizer, wanted, line)
        if wanted.stream:
            return StreamingResponse(answer.stream(pieces), media_type="text/event-stream")
        return JSONResponse(await answer.collect(pieces, request))

    async def refuse(request: Request) -> Response:
        raise CompletionError(
            f"unknown request {request.method} {request.url.path[:200]}: expected GET /v1/models "
            "or POST /v1/completions; the model continues texts and has no chat",
            status=404,
        )

    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return [
        Route("/v1/models", report_errors(list_models), methods=["GET"]),
        Route("/v1/models/{model:path}", report_errors(send_model), methods=["GET"]),
        Route("/v1/completions", report_errors(complete), methods=["POST"]),
        Route("/v1/{rest:path}", report_errors(refuse), methods=methods),
    ]
