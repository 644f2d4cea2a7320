"""Where a run's numbers go: metrics.jsonl always, Weights & Biases beside it when wanted.

Both stand behind the same three calls: `log`, `log_text`, `close`. Weights & Biases lives on a thread of its own and
is given up at its first error, so that it can neither stop a run nor slow it.
"""

import json
import logging
import netrc
import os
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from valyrian_jax.config import Config, to_tree

_CLOSE_SECONDS = 30.0
_log = logging.getLogger(__name__)


class Tracker:
    """Writes `metrics.jsonl` and `samples.txt` in a run directory, and forwards both."""

    def __init__(self, directory: Path, config: Config) -> None:
        self._metrics = (directory / "metrics.jsonl").open("a", encoding="utf-8")
        self._samples = (directory / "samples.txt").open("a", encoding="utf-8")
        mode = wandb_mode(config)
        self._remote = _Remote(directory, config, mode) if mode != "off" else None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers of a step as one JSON line."""
        self._metrics.write(json.dumps({"step": step, **values}) + "\n")
        self._metrics.flush()
        if self._remote:
            self._remote.send(lambda run: run.log(dict(values), step=step))

    def log_text(self, step: int, texts: list[str]) -> None:
        """Record generated texts of a step."""
        self._samples.write(f"=== step {step}\n" + "".join(f"{text}\n---\n" for text in texts))
        self._samples.flush()
        if self._remote:
            self._remote.send(lambda run: run.log({"samples": _table(step, texts)}, step=step))

    def close(self) -> None:
        """Finish writing; waits a limited time for Weights & Biases."""
        self._metrics.close()
        self._samples.close()
        if self._remote:
            self._remote.close()


class _Remote:
    """A Weights & Biases run, fed through a queue by a daemon thread."""

    def __init__(self, directory: Path, config: Config, mode: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[Any], object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, args=(directory, config, mode), daemon=True)
        self._thread.start()

    def send(self, call: Callable[[Any], object]) -> None:
        if self._thread.is_alive():
            self._calls.put(call)

    def close(self) -> None:
        self.send(lambda run: run.finish())
        self._calls.put(None)
        self._thread.join(_CLOSE_SECONDS)
        if self._thread.is_alive():
            _log.warning("wandb did not finish within %.0f s; metrics.jsonl is complete", _CLOSE_SECONDS)

    def _work(self, directory: Path, config: Config, mode: str) -> None:
        try:
            import wandb

            run = wandb.init(
                project=config.wandb.project,
                name=directory.name,
                dir=directory,
                mode="offline" if mode == "offline" else "online",
                config=to_tree(config),
                settings=wandb.Settings(silent=True, console="off"),
            )
            while (call := self._calls.get()) is not None:
                call(run)
        except Exception as error:  # whatever a tracker raises, the run goes on
            reason = f"{type(error).__name__}: {error}"
            _log.warning("wandb stopped (%s); the run goes on, metrics.jsonl is complete", reason)


def wandb_mode(config: Config) -> str:
    """online, offline or off: off if configured so, else as WANDB_MODE says, else online where `auto` is logged in."""
    asked = {"online": "online", "offline": "offline", "disabled": "off"}.get(os.environ.get("WANDB_MODE", ""))
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
    except (OSError, netrc.NetrcParseError):
        return False


def _table(step: int, texts: list[str]) -> Any:
    import wandb

    return wandb.Table(columns=["step", "text"], data=[[step, text] for text in texts])
