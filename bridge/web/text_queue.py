"""The queue for texts: a few are generated at a time, and a bounded number of requests waits.

Worker threads compute the steps of a text. A slow reader therefore delays nobody, and the server
notices at the next step that a reader has disconnected.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import TypeVar

import anyio
import anyio.to_thread

from bridge.web.protocol import MAX_CONNECTIONS, READ_TIMEOUT

T = TypeVar("T")

MAX_TEXTS = 8  # requests whose texts are generated at a time
MAX_SECONDS = 300.0  # for one request
# A request that waits holds its connection. This queue and `description_queue` together are shorter
# than the server's list of connections, so new clients never push out those that wait.
MAX_WAITING = MAX_CONNECTIONS // 2  # requests that wait for a text to end
PLACE_TIMEOUT = 4 * READ_TIMEOUT  # seconds; slow readers lose their places earlier


class BusyError(Exception):
    """There is no place for a request."""


class ServerStopError(Exception):
    """The server ended a text, because it is stopping or the text took too long."""


class Places:
    """A limited number of places; a request waits until one is free."""

    def __init__(self, count: int, max_waiting: int) -> None:
        self._free, self._max_waiting = anyio.Semaphore(count), max_waiting

    @contextlib.asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Wait for a place and hold it.

        Raises:
            BusyError: Too many requests wait, or no place became free in time.
        """
        if not self._free.value and self._free.statistics().tasks_waiting >= self._max_waiting:
            raise BusyError(f"too many requests: {self._max_waiting} others wait; try again later")
        try:
            with anyio.fail_after(PLACE_TIMEOUT):
                await self._free.acquire()
        except TimeoutError as error:
            raise BusyError(
                f"too many requests: no place was free for {PLACE_TIMEOUT:.0f} s; try again later"
            ) from error
        try:
            yield
        finally:
            self._free.release()


class TextQueue:
    """The places of the texts in progress, and the threads that compute them."""

    def __init__(self, limiter: anyio.CapacityLimiter, is_stopping: Callable[[], bool]) -> None:
        self.places = Places(MAX_TEXTS, MAX_WAITING)
        self._limiter, self._is_stopping = limiter, is_stopping

    async def iterate(
        self,
        steps: Iterator[T],
        count_tokens: Callable[[T], int],
        log: Callable[[str], None],
    ) -> AsyncGenerator[T, None]:
        """Yield the steps of a text, each computed in a worker thread, and log its length.

        Args:
            steps: The steps.
            count_tokens: Function that returns the number of new tokens in a step.
            log: Function that is called with a note of the length at the end.

        Raises:
            ServerStopError: The server ends the text.
        """
        deadline, count, suffix = anyio.current_time() + MAX_SECONDS, 0, ", stopped early"
        try:
            while not self._is_stopping() and anyio.current_time() <= deadline:
                step = await anyio.to_thread.run_sync(next, steps, None, limiter=self._limiter)
                if step is None:
                    suffix = ""
                    return
                count += count_tokens(step)
                yield step
            raise ServerStopError
        finally:
            log(f"{count} tokens{suffix}")
