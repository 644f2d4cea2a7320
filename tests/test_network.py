"""Training, evaluation and generation work without a network and never try to use one."""

import contextlib
import io
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.killing import FORK_SERVER
from tests.support.tiny import TINY

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
NETWORK_USED = 7  # exit code


def forbid_network() -> None:
    """Exit this process as soon as it looks up a name, connects or sends."""

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if not event.startswith("socket.") or event in ("socket.__new__", "socket.gethostname"):
            return
        if isinstance(arguments[0], socket.socket) and arguments[0].family == socket.AF_UNIX:
            return
        os.write(2, f"network use: {event} {arguments}\n".encode())
        os._exit(NETWORK_USED)

    sys.addaudithook(audit)


def run_commands(text: Path, run: Path) -> None:
    """Train with the default logger, and use the run."""
    os.environ.pop("HF_HUB_OFFLINE", None)
    forbid_network()
    import train
    from bridge import __main__ as bridge
    from valyrian_jax.cli.main import main as valyrian_jax

    arguments = ["--config", str(ROOT / "configs" / "tiny.toml")]
    arguments += ["--data.path", str(text), "--out", str(run)]
    arguments += [f"--{key}={value}" for key, value in TINY.items() if key != "wandb.mode"]
    with contextlib.redirect_stdout(io.StringIO()):
        train.main(arguments, standalone_mode=False)
        for command in ("eval", "sample", "plot"):
            valyrian_jax([command, str(run)], standalone_mode=False)
        bridge.main(["generate", str(run)], standalone_mode=False)


def look_up_name() -> None:
    forbid_network()
    socket.getaddrinfo("localhost", 80)


def run_in_process(target: Any, *arguments: Any) -> int | None:
    """Run a function in a process, and return its exit code."""
    process = FORK_SERVER.Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def test_a_name_lookup_is_noticed() -> None:
    assert run_in_process(look_up_name) == NETWORK_USED


def test_training_and_its_products_use_no_network(small_text: Path, tmp_path: Path) -> None:
    assert run_in_process(run_commands, small_text, tmp_path / "run") == 0
