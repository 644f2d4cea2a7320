"""HTTP for a server that anyone can connect to: no client can hold a connection by doing nothing.

uvicorn limits the time between two requests, but neither the time in which a request arrives nor
the time in which a reader takes an answer.
"""

import asyncio
import math
import resource

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

BODY_TIMEOUT = 10.0  # seconds for the body of a request; then it gets an error
REQUEST_TIMEOUT = BODY_TIMEOUT + 2  # seconds for a whole request; then the connection is aborted
READ_TIMEOUT = 15.0  # seconds in which a reader must take what has been sent
_SHUTDOWN_TIMEOUT = 1.0  # seconds for the last events
# Connections take file descriptors, also those that the system has accepted but not handed over.
_DESCRIPTORS, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
MAX_CONNECTIONS = 512 if _DESCRIPTORS == resource.RLIM_INFINITY else min(512, _DESCRIPTORS // 2)
BACKLOG = MAX_CONNECTIONS // 2


class Deadline:
    """A timer that aborts a connection unless it is stopped in time.

    Attributes:
        start_time: Time of the event loop when it started; infinity while it does not run.
    """

    def __init__(self, transport: asyncio.Transport, seconds: float) -> None:
        self._transport, self._seconds = transport, seconds
        self._timer: asyncio.TimerHandle | None = None
        self.start_time = math.inf

    def start(self) -> None:
        """Start the timer, unless it runs."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self.start_time = loop.time()
            self._timer = loop.call_later(self._seconds, self._transport.abort)

    def stop(self) -> None:
        """Stop the timer, if it runs."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self.start_time = None, math.inf


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 with deadlines for requests and readers, and at most `MAX_CONNECTIONS` clients."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request; close the connection that has waited longest if there are too many.

        New clients are therefore served however many connections are idle.
        """
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # Writing pauses while any byte waits for the reader.
        self._request_deadline = Deadline(transport, REQUEST_TIMEOUT)
        self._read_deadline = Deadline(transport, READ_TIMEOUT)
        self._request_deadline.start()
        if len(self.connections) > MAX_CONNECTIONS:
            others = (other for other in self.connections if isinstance(other, BoundedProtocol))
            idlest = min(others, key=lambda other: other._waiting_since())
            self.connections.discard(idlest)
            idlest.transport.abort()

    def _waiting_since(self) -> float:
        """Return when the connection began to wait for its client; infinity if it does not."""
        return min(self._request_deadline.start_time, self._read_deadline.start_time)

    def _update_deadlines(self) -> None:
        """Run the deadline of what the connection waits for: its reader, a request, or neither."""
        cycle, is_paused = self.cycle, self.flow.write_paused
        has_request = cycle is not None and not (cycle.more_body or cycle.response_complete)
        for deadline, is_waiting in (
            (self._read_deadline, is_paused),
            (self._request_deadline, not (is_paused or has_request)),
        ):
            if is_waiting:
                deadline.start()
            else:
                deadline.stop()

    def data_received(self, data: bytes) -> None:
        """Read a part of a request."""
        super().data_received(data)
        self._update_deadlines()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._update_deadlines()

    def pause_writing(self) -> None:
        """Wait for the reader."""
        super().pause_writing()
        self._update_deadlines()

    def resume_writing(self) -> None:
        """Continue after the reader has taken everything."""
        super().resume_writing()
        self._update_deadlines()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is not HTTP, unless an answer has already begun."""
        if self.conn.our_state is h11.IDLE:
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def shutdown(self) -> None:
        """Close the connection after its response, or after a second."""
        super().shutdown()
        Deadline(self.transport, _SHUTDOWN_TIMEOUT).start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        super().connection_lost(exc)
        self._request_deadline.stop()
        self._read_deadline.stop()
