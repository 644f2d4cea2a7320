"""Stop one training run again and again at random moments, and compare it with the undisturbed one, hash for hash.

Each time the real program runs, `python train.py`, and gets SIGKILL, SIGTERM or SIGINT at a moment that is uniform over
its start and its first steps. A run that is asked to stop must have saved and say how to go on.
"""

import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import click

from tests.support.killing import fingerprint
from valyrian_jax.training import checkpoint

ROOT = Path(__file__).parents[2]
SIGNALS = [signal.SIGKILL] * 3 + [signal.SIGTERM, signal.SIGINT]


def start(run: Path, options: list[str]) -> subprocess.Popen[str]:
    """The command that starts a run, or goes on with it."""
    new = ["--config", "configs/tiny.toml", "--out", str(run), "--wandb.mode", "off", *options]
    arguments = ["--resume", str(run)] if (run / "config.toml").exists() else new
    command = [sys.executable, "train.py", *arguments]
    with (run.parent / "output.txt").open("w") as output:
        return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.PIPE, text=True)


class End(NamedTuple):
    """How a start ended: its status, the seconds from the signal on, and whether it trained when the signal came."""

    status: int
    seconds: float
    trained: bool
    said: str


def stopped(run: Path, process: subprocess.Popen[str], seconds: float, how: signal.Signals) -> End:
    """Send a signal after some seconds."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    trained = (
        "optimizer" in (run.parent / "output.txt").read_text()
    )  # the last line before the steps
    sent = time.perf_counter()
    process.send_signal(how)
    said = process.communicate()[1]
    return End(process.returncode, time.perf_counter() - sent, trained, said)


@click.command()
@click.option("--kills", default=100, show_default=True)
@click.option(
    "--steps",
    default=4000,
    show_default=True,
    help="Enough for the run not to end before the last kill.",
)
@click.option(
    "--seconds", default=12.0, show_default=True, help="The latest moment of a kill after a start."
)
@click.option("--seed", default=0, show_default=True)
def main(kills: int, steps: int, seconds: float, seed: int) -> None:
    """Print what happened, one JSON object a line."""
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # whatever a shell has set for this and all it starts
    options = ["--train.steps", str(steps), "--train.patience", "0", "--train.sample_every", "500"]
    draw, ends, delays = random.Random(seed), Counter[str](), []
    with tempfile.TemporaryDirectory() as scratch:
        whole, run = Path(scratch) / "whole", Path(scratch) / "stopped"
        if start(whole, options).wait():
            raise click.ClickException("the undisturbed run failed")
        for number in range(kills):
            how = draw.choice(SIGNALS)
            end = stopped(run, start(run, options), draw.uniform(0, seconds), how)
            saved = end.status == 128 + how and "python train.py --resume" in end.said
            ends[
                f"{how.name}, {'saved' if saved else 'training' if end.trained else 'starting'}"
            ] += 1
            must_save = end.trained and how != signal.SIGKILL
            if end.status not in (-how, 128 + how) or (must_save and not saved):
                raise click.ClickException(f"kill {number} by {how.name} ended as {end}")
            if saved:
                delays.append(end.seconds)
            reached = checkpoint.list_steps(run / "checkpoints")
            print(
                json.dumps(
                    {"kill": number, "signal": how.name, **end._asdict(), "checkpoints": reached}
                ),
                flush=True,
            )
        if start(run, []).wait():
            raise click.ClickException("the last resume failed")
        same = fingerprint(run) == fingerprint(whole)
        slowest = max(delays, default=0)
        print(
            json.dumps(
                {
                    "kills": kills,
                    "ends": ends,
                    "slowest_save_and_exit_seconds": slowest,
                    "same": same,
                }
            )
        )
        sys.exit(not same)


if __name__ == "__main__":
    main()
