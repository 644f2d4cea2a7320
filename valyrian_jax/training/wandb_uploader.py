"""The uploader of a run: `python -m valyrian_jax.training.wandb_uploader DIRECTORY MODE`.

This process sends a run to Weights & Biases. It reads metrics.jsonl from the beginning and ends
when its standard input closes: the training process has closed the log or died. If it hangs then,
it kills its process group. Training never waits for it (see `valyrian_jax.training.metrics`).
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
from typing import Any, BinaryIO

import numpy as np
import wandb
from PIL import Image

from valyrian_jax.config import config_to_tree
from valyrian_jax.files import check_regular, open_regular, read_text, write_atomically
from valyrian_jax.plots.attention import draw_attention
from valyrian_jax.run_directory import load_run_config
from valyrian_jax.training.metrics import attention_path

_POLL_INTERVAL = 1.0  # seconds
_EXIT_TIMEOUT = 60.0  # seconds; longer than a living training process waits


def upload(directory: Path, mode: str) -> None:
    """Send the log of a run, online or offline, until standard input closes."""
    config = load_run_config(directory)
    remote = wandb.init(
        project=config.wandb.project,
        name=directory.name,
        id=_load_run_id(directory / "wandb" / "id"),
        resume="allow",
        dir=directory,
        mode="online" if mode == "online" else "offline",
        config=config_to_tree(config),
    )
    with open_regular(directory / "metrics.jsonl") as metrics:
        is_closed = False
        while not is_closed:
            is_closed = bool(select.select([sys.stdin], [], [], _POLL_INTERVAL)[0])
            for record in _read_new_records(metrics):
                _send(remote, record, directory)
    remote.finish()


def kill_after_input_closes(timeout: float) -> None:
    """Kill this process group `timeout` seconds after standard input closes."""

    def wait_and_kill() -> None:
        sys.stdin.read()
        time.sleep(timeout)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait_and_kill, daemon=True).start()


def _read_new_records(metrics: BinaryIO) -> list[dict[str, Any]]:
    """Return the records of the whole lines written since the last call."""
    records: list[dict[str, Any]] = []
    while True:
        start = metrics.tell()
        line = metrics.readline()
        if not line.endswith(b"\n"):
            metrics.seek(start)
            return records
        records.append(json.loads(line))


def _send(remote: Any, record: dict[str, Any], directory: Path) -> None:
    step = record.pop("step")
    if texts := record.pop("samples", None):
        record["samples"] = wandb.Table(
            columns=["step", "text"], data=[[step, text] for text in texts]
        )
        if (file := attention_path(directory, step)).exists():
            record["attention"] = wandb.Image(_draw_attention(file))
            file.unlink()
    remote.log(record, step=step)


def _draw_attention(file: Path) -> Image.Image:
    """Draw the attention in a file; wandb accepts figures too, but only those of pyplot."""
    picture = io.BytesIO()
    check_regular(file)
    with np.load(file) as arrays:
        draw_attention(arrays["labels"].tolist(), arrays["weights"]).savefig(picture, format="png")
    return Image.open(picture)


def _load_run_id(path: Path) -> str:
    """Return the identifier of a run, which a resumed run keeps; create it if there is none."""
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, secrets.token_hex(4))
    return read_text(path)


if __name__ == "__main__":
    kill_after_input_closes(_EXIT_TIMEOUT)
    upload(Path(sys.argv[1]), sys.argv[2])
