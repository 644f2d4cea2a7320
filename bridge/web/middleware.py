"""Middleware around every endpoint: a line in the log, and a check of the host."""

import contextlib
import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime

import click
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from valyrian_jax.errors import escape

_MAX_PATH = 200  # characters of a path in the log


class RequestLog:
    """Middleware that writes a line to standard error at the end of every request.

    The line has the time, method, path, status, duration, and the notes that the endpoint added. A
    GET that succeeds has no line: it is for the page, or a check of the server's health.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request and log it."""
        start_time, notes = time.monotonic(), list[str]()
        status = 0  # It stays 0 if the client leaves before an answer begins.

        async def record_status(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app({**scope, "notes": notes}, receive, record_status)
        except Exception:
            status = status or 500
            raise
        finally:
            if not (scope["method"] in ("GET", "HEAD") and 0 < status < 400):
                path, seconds = escape(scope["path"])[:_MAX_PATH], time.monotonic() - start_time
                words = f"{scope['method']} {path} {status or '-'} {seconds:.3f} s"
                now = datetime.now().astimezone().isoformat(timespec="seconds")
                with contextlib.suppress(OSError):  # Standard error may be closed.
                    click.echo("; ".join([f"{now} {words}", *notes]), err=True)


class HostCheck:
    """Middleware that refuses requests for other host names.

    This prevents DNS rebinding: another site cannot reach the server under its own host name.
    """

    def __init__(
        self, app: ASGIApp, hosts: Sequence[str], refuse: Callable[[str, str], Response]
    ) -> None:
        """Wrap an application.

        Args:
            app: Application that handles the other requests.
            hosts: Host names that a request may use; "*" allows all.
            refuse: Function that makes the answer from the path of a request and a message.
        """
        self._app, self._hosts, self._refuse = app, hosts, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or refuse it."""
        host = Headers(scope=scope).get("host", "")
        if "*" in self._hosts or re.sub(r":\d*$", "", host).lower() in self._hosts:
            await self._app(scope, receive, send)
            return
        message = (
            f"the request is for another host: expected {' or '.join(self._hosts)}, found "
            f"{host[:200]!r}; use one of these names, also in a proxy, or start the server with "
            "another --host"
        )
        await self._refuse(scope["path"], message)(scope, receive, send)
