"""The log of a run: metrics.jsonl and samples.txt, and Weights & Biases if the config asks for it.

Weights & Biases runs in a process of its own that reads metrics.jsonl (see
`valyrian_jax.training.wandb_uploader`), so it can neither stop a run nor slow it down.
"""

import contextlib
import json
import math
import netrc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from valyrian_jax.config import Config
from valyrian_jax.errors import StopSignal, UserError
from valyrian_jax.files import append_regular, name_errors, replace_file
from valyrian_jax.run_directory import format_samples
from valyrian_jax.training import distributed
from valyrian_jax.training.console import warn

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]  # on the path even if not installed
_CLOSE_TIMEOUT = 30.0  # seconds
_STOPPED_CLOSE_TIMEOUT = 5.0  # seconds, after a signal


class MetricsLogger:
    """Writes metrics.jsonl and samples.txt, and starts the uploader if the configuration asks."""

    def __init__(self, directory: Path, config: Config) -> None:
        self._directory = directory
        self._metrics = append_regular(directory / "metrics.jsonl")
        self._samples = append_regular(directory / "samples.txt")
        mode = resolve_wandb_mode(config)
        try:
            self._uploader = None if mode == "off" else _start_uploader(directory, mode)
        except (OSError, UserError) as error:
            self._uploader = None
            warn(f"cannot start wandb: {error}; training continues, and metrics.jsonl is complete")

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Write the values of a step as one JSON line; numbers that are not finite become null."""
        finite = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }
        _append(self._metrics, json.dumps({"step": step, **finite}, ensure_ascii=False) + "\n")

    def log_text(self, step: int, texts: list[str]) -> None:
        """Write the sampled texts of a step to samples.txt and metrics.jsonl."""
        self.log(step, {"samples": texts})
        _append(self._samples, format_samples(step, texts))

    @property
    def wants_attention(self) -> bool:
        """Whether `log_attention` has a reader."""
        return self._uploader is not None

    def log_attention(self, step: int, labels: list[str], weights: npt.NDArray[np.float32]) -> None:
        """Write the attention [L, H, T, T] of a step for the uploader.

        The uploader draws it when it reads that step's texts, so call `log_text` afterwards.
        """
        file = attention_path(self._directory, step)
        with contextlib.suppress(OSError, UserError):  # A missing picture must not stop a run.
            file.parent.mkdir(exist_ok=True)
            with replace_file(file) as temporary, temporary.open("wb") as output:
                np.savez(output, labels=np.array(labels), weights=weights)

    def close(self, timeout: float) -> None:
        """Close the files, and kill the uploader if it does not finish within `timeout` seconds."""
        for file in (self._metrics, self._samples):
            with contextlib.suppress(OSError):  # The failed write has raised the error already.
                file.close()
        if self._uploader:
            _close_uploader(self._uploader, timeout)


@contextlib.contextmanager
def open_logger(
    directory: Path, config: Config, stop_signal: StopSignal
) -> Iterator[MetricsLogger | None]:
    """Open the log of a run, None in processes that are not the primary one.

    After a signal, closing it waits less for the uploader.
    """
    if not distributed.is_primary():
        yield None
        return
    logger = MetricsLogger(directory, config)
    try:
        yield logger
    finally:
        logger.close(_STOPPED_CLOSE_TIMEOUT if stop_signal() else _CLOSE_TIMEOUT)


def _append(file: TextIO, text: str) -> None:
    with name_errors(Path(file.name)):
        file.write(text)
        file.flush()


def attention_path(directory: Path, step: int) -> Path:
    """Return the file in a run directory that passes the attention of a step to the uploader."""
    return directory / "wandb" / f"attention-{step}.npz"


def resolve_wandb_mode(config: Config) -> str:
    """Return online, offline or off.

    A configured `off` wins, then WANDB_MODE, then the configuration; `auto` is online if a login
    exists.
    """
    if config.wandb.mode == "off":
        return "off"
    modes = {"online": "online", "offline": "offline", "disabled": "off"}
    if mode := modes.get(os.environ.get("WANDB_MODE", "")):
        return mode
    if config.wandb.mode != "auto":
        return config.wandb.mode
    return "online" if _is_logged_in() else "off"


def _is_logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return "api.wandb.ai" in netrc.netrc(os.environ.get("NETRC")).hosts
    except (OSError, ValueError, netrc.NetrcParseError):  # ValueError: the file is not UTF-8.
        return False


def _start_uploader(directory: Path, mode: str) -> subprocess.Popen[bytes]:
    # Without -P, files in the working directory would come before the packages of this process.
    command = [sys.executable, "-P", "-m", "valyrian_jax.training.wandb_uploader"]
    paths = [str(_PACKAGE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with append_regular(directory / "wandb.log") as log:
        return subprocess.Popen(
            [*command, str(directory.absolute()), mode],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,  # The uploader ends when this pipe closes.
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C does not reach it, and killing its group ends all.
        )


def _close_uploader(process: subprocess.Popen[bytes], timeout: float) -> None:
    assert process.stdin
    process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.wait():
        warn("wandb failed or did not finish: see wandb.log; metrics.jsonl is complete")
