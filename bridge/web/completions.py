"""OpenAI's protocol for completions, so that programs written for it can use the model.

    GET  /v1/models         the model that is served
    GET  /v1/models/{id}    the same, by its name
    POST /v1/completions    texts, as one JSON object or as a stream of server-sent events

Every error is the protocol's error object. `bridge.web.completion_request` describes the fields.
"""

import contextlib
import json
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from bridge.api import Model
from bridge.web.completion_request import (
    CompletionError,
    CompletionRequest,
    check_model,
    parse_completion,
)
from bridge.web.completion_texts import Piece, TokenScore, stream_choices
from bridge.web.protocol import READ_TIMEOUT
from bridge.web.request import MAX_MESSAGE, read_json_body
from bridge.web.text_queue import MAX_TEXTS, BusyError, ServerStopError, TextQueue
from valyrian_jax.bundle.memory import GENERATION_BYTES, count_texts
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer

Json = dict[str, Any]
_STOPPED = "the server stopped the text: it is shutting down, or the text took too long; try again"


def create_completion_app(model: Model, name: str, queue: TextQueue) -> Starlette:
    """Create the application that speaks the protocol; its paths begin after /v1.

    Args:
        model: Model to serve.
        name: Its name in the protocol.
        queue: The places for texts, which the page uses, too.
    """
    record = {
        "id": name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "valyrian-gpt",
    }

    async def list_models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [record]})

    async def send_model(request: Request) -> Response:
        check_model(request.path_params["model"], name)
        return JSONResponse(record)

    return Starlette(
        routes=[
            Route("/models", list_models),
            Route("/models/{model:path}", send_model),
            Route(
                "/completions",
                CompletionEndpoint(model, name, queue),
                methods=["POST"],
            ),
        ],
        exception_handlers={
            CompletionError: send_error,
            UserError: send_error,
            BusyError: send_busy,
            HTTPException: send_http_error,
        },
    )


class CompletionEndpoint:
    """The endpoint that generates the choices of a request, in one of the places for texts."""

    def __init__(self, model: Model, name: str, queue: TextQueue) -> None:
        self._model, self._name, self._queue = model, name, queue
        self._max_choices = count_texts(model.config, GENERATION_BYTES // MAX_TEXTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, at once or as a stream."""
        request = Request(scope, receive)
        body = await read_json_body(request)
        completion = parse_completion(self._model.bundle, self._name, self._max_choices, body)
        answer = Answer(self._model.tokenizer, self._name, completion)
        pieces = self._queue.iterate(
            stream_choices(self._model.generator, self._model.tokenizer, completion),
            lambda step: sum(piece.new_tokens for piece in step),
            lambda note: scope["notes"].append(f"seed {completion.sample.seed}: {note}"),
        )
        # Without aclosing, a text whose reader has left would end only at a garbage collection.
        async with self._queue.places.take(), contextlib.aclosing(pieces):
            if await request.is_disconnected():
                return
            if completion.stream:
                events = answer.stream(pieces)
                response: Response = StreamingResponse(events, media_type="text/event-stream")
            else:
                response = await answer.collect(pieces, request)
            await response(scope, receive, send)


class Answer:
    """The objects of the protocol for one request."""

    def __init__(self, tokenizer: Tokenizer, name: str, completion: CompletionRequest) -> None:
        self._tokenizer, self._request = tokenizer, completion
        self._prompt_tokens, self._new_tokens = sum(map(len, completion.prompts)), 0
        self._head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": name,
        }

    async def collect(
        self, pieces: AsyncGenerator[list[Piece], None], request: Request
    ) -> Response:
        """Return the whole answer, or an empty one if the client has left."""
        parts: list[list[Piece]] = [[] for _ in self._request.prompts * self._request.count]
        try:
            async for step in pieces:
                for piece in step:
                    parts[piece.choice].append(piece)
                    self._new_tokens += piece.new_tokens
                if await request.is_disconnected():
                    return Response()
        except (UserError, ServerStopError) as error:
            return make_error(*_explain_end(error))
        choices = [self._choice(choice) for choice in parts]
        return JSONResponse(self._head | {"choices": choices, "usage": self._usage()})

    async def stream(self, pieces: AsyncGenerator[list[Piece], None]) -> AsyncGenerator[str, None]:
        """Yield the answer as server-sent events, one whenever there is text to send."""
        unsent: dict[int, list[Piece]] = {}
        usage: Json = {"usage": None} if self._request.include_usage else {}
        try:
            async for step in pieces:
                for piece in step:
                    self._new_tokens += piece.new_tokens
                    unsent.setdefault(piece.choice, []).append(piece)
                    if piece.text or piece.finish_reason:
                        choice = self._choice(unsent.pop(piece.choice))
                        yield _make_event(self._head | {"choices": [choice]} | usage)
            if self._request.include_usage:
                yield _make_event(self._head | {"choices": [], "usage": self._usage()})
        except (UserError, ServerStopError) as error:  # The answer has begun with status 200.
            yield _make_event(_error_object(*_explain_end(error)[:2]))
        yield "data: [DONE]\n\n"

    def _choice(self, pieces: Sequence[Piece]) -> Json:
        """Return successive pieces of a choice as one object."""
        scores = [score for piece in pieces for score in piece.scores]
        return {
            "index": pieces[0].choice,
            "text": "".join(piece.text for piece in pieces),
            "logprobs": None if self._request.logprobs is None else self._logprobs(scores),
            "finish_reason": pieces[-1].finish_reason,
        }

    def _logprobs(self, scores: Sequence[TokenScore]) -> Json:
        return {
            "tokens": [self._name_token(score.token) for score in scores],
            "token_logprobs": [score.logprob for score in scores],
            "top_logprobs": [
                {self._name_token(token): logprob for token, logprob in score.top} or None
                for score in scores
            ],
            "text_offset": [score.offset for score in scores],
        }

    def _name_token(self, token: int) -> str:
        r"""Return the text of a token; one that is not whole characters is bytes:\xe2\x80."""
        data = self._tokenizer.decode_bytes([token])
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)

    def _usage(self) -> Json:
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self._new_tokens,
            "total_tokens": self._prompt_tokens + self._new_tokens,
        }


def _make_event(content: Json) -> str:
    return f"data: {json.dumps(content)}\n\n"


def _explain_end(error: Exception) -> tuple[str, str, int]:
    """Return message, type and status for a text that the server cannot complete."""
    if isinstance(error, ServerStopError):
        return _STOPPED, "server_error", 503
    return str(error), "server_error", 500


def _error_object(
    message: str, kind: str, param: str | None = None, code: str | None = None
) -> Json:
    """Return the protocol's error object, with a message of one line and limited length."""
    line = " ".join(message.split())[:MAX_MESSAGE]
    return {"error": {"message": line, "type": kind, "param": param, "code": code}}


def make_error(message: str, kind: str, status: int) -> Response:
    """Return an answer with the protocol's error object."""
    return JSONResponse(_error_object(message, kind), status)


async def send_error(_: Request, error: Exception) -> Response:
    """Report a wrong request."""
    if not isinstance(error, CompletionError):
        return make_error(str(error), "invalid_request_error", 400)
    content = _error_object(str(error), "invalid_request_error", error.param, error.code)
    return JSONResponse(content, error.status)


async def send_busy(_: Request, error: Exception) -> Response:
    """Report that there is no place for a request."""
    content = _error_object(str(error), "server_error")
    return JSONResponse(content, 503, {"Retry-After": f"{READ_TIMEOUT:.0f}"})


async def send_http_error(request: Request, error: Exception) -> Response:
    """Report a path or a method that this part of the server does not have."""
    assert isinstance(error, HTTPException)
    message = (
        f"unknown request: expected GET /v1/models or POST /v1/completions, found "
        f"{request.method} {request.url.path}; the model continues texts and has no chat"
    )
    content = _error_object(message, "invalid_request_error")
    return JSONResponse(content, error.status_code, error.headers)
