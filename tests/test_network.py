"""Nothing asks the network for anything unless it is told to: the main jobs run where no connection can be made."""

import contextlib
import io
import os
import socket
import sys
from pathlib import Path
from typing import Any

from tests.support.killing import FORKING
from tests.support.tiny import TINY

ROOT = Path(__file__).parent.parent


def unplug() -> None:
    """From here on, whoever looks up a name, connects or sends in this process ends it with a traceback."""

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        used = event.startswith("socket.") and event not in ("socket.__new__", "socket.gethostname")
        if used and not (
            isinstance(arguments[0], socket.socket) and arguments[0].family == socket.AF_UNIX
        ):
            os.write(2, f"the network was asked for: {event} {arguments}\n".encode())
            os._exit(7)

    sys.addaudithook(refuse)


def jobs(text: Path, run: Path) -> None:
    """Train with the default tracker, and use what comes of it."""
    os.environ.pop("HF_HUB_OFFLINE", None)
    unplug()
    import train
    from bridge import __main__ as bridge
    from valyrian_jax import __main__ as valyrian_jax

    settings = [f"--{key}={value}" for key, value in TINY.items() if key != "wandb.mode"]
    tiny = [
        "--config",
        str(ROOT / "configs" / "tiny.toml"),
        "--data.path",
        str(text),
        "--out",
        str(run),
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        train.main([*tiny, *settings], standalone_mode=False)
        for command in ("eval", "sample", "plot"):
            valyrian_jax.main([command, str(run)], standalone_mode=False)
        bridge.main(["generate", str(run)], standalone_mode=False)


def look_up() -> None:
    unplug()
    socket.getaddrinfo("localhost", 80)


def exit_code(target: Any, *arguments: Any) -> int | None:
    process = FORKING.Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def test_the_main_jobs_use_no_network(small_text: Path, tmp_path: Path) -> None:
    assert exit_code(look_up) == 7  # the guard works
    assert exit_code(jobs, small_text, tmp_path / "run") == 0
