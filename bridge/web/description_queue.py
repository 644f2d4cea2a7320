"""The queue for requests without a text, such as a lens or a verdict: one is computed at a time."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bridge.web.protocol import MAX_CONNECTIONS
from bridge.web.request import read_json_body
from bridge.web.text_queue import Places

T = TypeVar("T")

MAX_WAITING = MAX_CONNECTIONS // 8  # `text_queue` explains the limit.


class DescriptionQueue:
    """The place of the request in progress, and the threads that compute its answer."""

    def __init__(self, limiter: anyio.CapacityLimiter) -> None:
        self._places, self._limiter = Places(1, MAX_WAITING), limiter

    def make_route(
        self, path: str, parse: Callable[[dict[str, Any]], T], describe: Callable[[T], Any]
    ) -> Route:
        """Create an endpoint.

        Args:
            path: Path of the endpoint.
            parse: Function from the body of a request to what `describe` takes. It may raise a
                UserError.
            describe: Function that computes the answer in a worker thread.
        """

        async def send_description(request: Request) -> Response:
            subject = parse(await read_json_body(request))
            async with self._places.take():
                if await request.is_disconnected():
                    return Response()
                description = await anyio.to_thread.run_sync(
                    partial(describe, subject), limiter=self._limiter
                )
                return JSONResponse(description)

        return Route(path, send_description, methods=["POST"])
