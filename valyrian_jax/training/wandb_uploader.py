"""The process that sends a run to Weights & Biases: `python -m valyrian_jax.training.wandb_uploader RUN MODE`.

It follows `metrics.jsonl` from its beginning and ends when its standard input does, that is, when the training process
has closed the run or died; should it hang then, it is ended with all it started. The training process never waits for
it while it trains: see `valyrian_jax.training.metrics`.
"""

import io
import json
import os
import secrets
import select
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import wandb
from PIL import Image

from valyrian_jax.config import config_to_tree, load_config
from valyrian_jax.plots.attention import draw_attention
from valyrian_jax.training.metrics import attention_path

_SECONDS = 1.0
_SECONDS_AFTER_END = 60.0  # more than the training process allows where it lives


def upload(run: Path, mode: str) -> None:
    """Send what is logged, until standard input ends.

    Args:
        run: the run directory.
        mode: "online" or "offline".
    """
    settings = load_config(run / "config.toml")
    remote = wandb.init(
        project=settings.wandb.project,
        name=run.name,
        id=_run_id(run / "wandb" / "id"),
        resume="allow",
        dir=run,
        mode="online" if mode == "online" else "offline",
        config=config_to_tree(settings),
    )
    with (run / "metrics.jsonl").open(encoding="utf-8") as metrics:
        closed = False
        while not closed:
            closed = bool(select.select([sys.stdin], [], [], _SECONDS)[0])
            for record in _new_records(metrics):
                _send(remote, record, run)
    remote.finish()


def end_with_input(seconds: float) -> None:
    """When standard input has ended, kill this process group after some seconds."""

    def wait() -> None:
        sys.stdin.read()
        time.sleep(seconds)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def _new_records(metrics: TextIO) -> list[dict[str, Any]]:
    """The whole lines written since the last call."""
    records: list[dict[str, Any]] = []
    while True:
        start = metrics.tell()
        line = metrics.readline()
        if not line.endswith("\n"):
            metrics.seek(start)
            return records
        records.append(json.loads(line))


def _send(remote: Any, record: dict[str, Any], run: Path) -> None:
    step = record.pop("step")
    if texts := record.pop("samples", None):
        record["samples"] = wandb.Table(
            columns=["step", "text"], data=[[step, text] for text in texts]
        )
        if (file := attention_path(run, step)).exists():
            record["attention"] = wandb.Image(_picture(file))
            file.unlink()
    remote.log(record, step=step)


def _picture(file: Path) -> Image.Image:
    """The attention in a file; wandb takes figures too, but only those of pyplot."""
    drawn = io.BytesIO()
    with np.load(file) as found:
        draw_attention(found["labels"].tolist(), found["weights"]).savefig(drawn, format="png")
    return Image.open(drawn)


def _run_id(path: Path) -> str:
    """One name for all sessions of a run, so that a resumed run goes on in the same place."""
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(secrets.token_hex(4), encoding="utf-8")
    return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    end_with_input(_SECONDS_AFTER_END)
    upload(Path(sys.argv[1]), sys.argv[2])
