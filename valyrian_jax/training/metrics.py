"""Where a run's numbers go: always metrics.jsonl, and Weights & Biases if the configuration asks for it.

`MetricsLogger` and `NullLogger` have the same methods. Weights & Biases runs in a process of its own that reads
metrics.jsonl (see `training/wandb_uploader.py`), so it can neither stop a run nor slow it down.
"""

import contextlib
import json
import math
import netrc
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from valyrian_jax.config import Config
from valyrian_jax.errors import StopSignal
from valyrian_jax.run_directory import format_samples
from valyrian_jax.training import distributed

_CLOSE_SECONDS = 30.0
_HURRIED_SECONDS = 5.0  # when a signal has asked to stop


class MetricsLogger:
    """Writes `metrics.jsonl` and `samples.txt` in a run directory, and starts the uploader if it is wanted."""

    def __init__(self, directory: Path, config: Config) -> None:
        self._directory = directory
        self._metrics = (directory / "metrics.jsonl").open("a", encoding="utf-8")
        self._samples = (directory / "samples.txt").open("a", encoding="utf-8")
        mode = resolve_wandb_mode(config)
        try:
            self._uploader = None if mode == "off" else _start_uploader(directory, mode)
        except OSError as error:
            self._uploader = None
            print(
                f"wandb could not be started: {error}; metrics.jsonl is written all the same",
                file=sys.stderr,
            )

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Record numbers of a step as one JSON line; one that is not finite, which JSON has no word for, as null."""
        known = {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in values.items()
        }
        self._metrics.write(json.dumps({"step": step, **known}, ensure_ascii=False) + "\n")
        self._metrics.flush()

    def log_text(self, step: int, texts: list[str]) -> None:
        """Record generated texts of a step, in metrics.jsonl too."""
        self.log(step, {"samples": texts})
        self._samples.write(format_samples(step, texts))
        self._samples.flush()

    @property
    def draws(self) -> bool:
        """Whether anyone wants to see pictures while the run trains."""
        return self._uploader is not None

    def log_attention(self, step: int, labels: list[str], weights: npt.NDArray[np.float32]) -> None:
        """Record the attention [L, H, T, T] of a step in T tokens, to be drawn elsewhere: before that step's texts."""
        file = attention_path(self._directory, step)
        partial = file.with_name(f"{file.name}.partial")
        with contextlib.suppress(OSError):  # a picture is nothing to stop for
            file.parent.mkdir(exist_ok=True)
            with partial.open("wb") as written:
                np.savez(written, labels=np.array(labels), weights=weights)
            partial.replace(file)

    def close(self, seconds: float) -> None:
        """Finish writing; the uploader has so many seconds to finish too, and is then ended."""
        for file in (self._metrics, self._samples):
            with contextlib.suppress(OSError):  # it was raised already where it was written
                file.close()
        if self._uploader:
            _end_uploader(self._uploader, seconds)


class NullLogger:
    """The same calls, for a process that is not the one that writes."""

    draws = False

    def log(self, step: int, values: Mapping[str, Any]) -> None: ...

    def log_text(self, step: int, texts: list[str]) -> None: ...

    def log_attention(
        self, step: int, labels: list[str], weights: npt.NDArray[np.float32]
    ) -> None: ...

    def close(self, seconds: float) -> None: ...


def open_logger(directory: Path, config: Config) -> MetricsLogger | NullLogger:
    """Return the logger of a run: one that writes in the primary process, one that does not in the others."""
    return MetricsLogger(directory, config) if distributed.is_primary() else NullLogger()


def close_seconds(stop_signal: StopSignal) -> float:
    """Return how long the end of a run waits for the uploader: less if a signal has asked to stop."""
    return _HURRIED_SECONDS if stop_signal() else _CLOSE_SECONDS


def attention_path(run: Path, step: int) -> Path:
    """Where the attention of a step waits for the uploader."""
    return run / "wandb" / f"attention-{step}.npz"


def resolve_wandb_mode(config: Config) -> str:
    """online, offline or off: off if configured so, else as WANDB_MODE says, else online where `auto` is logged in."""
    asked = {"online": "online", "offline": "offline", "disabled": "off"}.get(
        os.environ.get("WANDB_MODE", "")
    )
    if config.wandb.mode == "off":
        return "off"
    if asked or config.wandb.mode != "auto":
        return asked or config.wandb.mode
    return "online" if _logged_in() else "off"


def _logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return "api.wandb.ai" in netrc.netrc(os.environ.get("NETRC")).hosts
    except (OSError, ValueError, netrc.NetrcParseError):  # ValueError: it is not UTF-8
        return False


def _start_uploader(directory: Path, mode: str) -> subprocess.Popen[bytes]:
    with (directory / "wandb.log").open("ab") as log:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "valyrian_jax.training.wandb_uploader",
                str(directory.absolute()),
                mode,
            ],
            stdin=subprocess.PIPE,  # ends when this process does
            stdout=log,
            stderr=log,
            start_new_session=True,  # so that Ctrl-C does not reach it, and it can be ended with what it starts
        )


def _end_uploader(process: subprocess.Popen[bytes], seconds: float) -> None:
    assert process.stdin
    process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.wait():
        print(
            "wandb failed or did not finish; wandb.log may say why, metrics.jsonl is complete",
            file=sys.stderr,
        )
