"""Ctrl-C and SIGTERM, which the systems that preempt jobs send, as a question that a loop asks when it can stop."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from valyrian_jax.errors import StopSignal

_ASKING = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def stop_signals() -> Iterator[StopSignal]:
    """Within it, the first signal only changes the answer of the function given; a second one ends the process at once.

    A signal that the process was started to ignore (as a shell has it for what it runs in the background) stays
    ignored; outside the main thread, which alone gets signals, the answer is always None.
    """
    received: list[signal.Signals] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(signal.Signals(number))
        with contextlib.suppress(OSError):
            os.write(2, b"stopping once what has begun is done and saved; once more: at once\n")
        for asking in before:
            signal.signal(asking, signal.SIG_DFL)

    in_main = threading.current_thread() is threading.main_thread()
    before = {
        s: signal.getsignal(s) for s in _ASKING if in_main and signal.getsignal(s) != signal.SIG_IGN
    }
    for asking in before:
        signal.signal(asking, note)
    try:
        yield lambda: received[0] if received else None
    finally:
        for asking, handler in before.items():
            signal.signal(asking, handler)
