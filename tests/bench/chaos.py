"""Kill and resume one training run many times, and compare it with an uninterrupted run.

Every kill starts or resumes `python train.py` and sends SIGKILL, SIGTERM or SIGINT at a random
moment of its start or its first steps. A run that gets SIGTERM or SIGINT while it trains must save,
and print the command that resumes it. In the end, both runs must have the same hashes.
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
from typing import Any, NamedTuple

import click

sys.path.append(str(Path(__file__).parents[2]))

from tests.support.killing import fingerprint
from valyrian_jax.training import checkpoint

ROOT = Path(__file__).parents[2]
SIGNALS = [signal.SIGKILL] * 3 + [signal.SIGTERM, signal.SIGINT]


class RunEnd(NamedTuple):
    """How a process ended.

    Attributes:
        status: Exit status.
        seconds: Time from the signal to the exit.
        trained: Whether it trained when it got the signal.
        error_output: Standard error.
    """

    status: int
    seconds: float
    trained: bool
    error_output: str


def start_or_resume(run: Path, options: list[str]) -> subprocess.Popen[str]:
    new = ["--config", "configs/tiny.toml", "--out", str(run), "--wandb.mode", "off", *options]
    arguments = ["--resume", str(run)] if (run / "config.toml").exists() else new
    command = [sys.executable, "train.py", *arguments]
    with (run.parent / "output.txt").open("w") as output:
        return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.PIPE, text=True)


def kill_after(
    seconds: float, run: Path, process: subprocess.Popen[str], kill_signal: signal.Signals
) -> RunEnd:
    """Send a signal to a process after some seconds, and wait for its end."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    # This line is printed just before the first step.
    trained = "optimizer" in (run.parent / "output.txt").read_text()
    sent = time.perf_counter()
    process.send_signal(kill_signal)
    error = process.communicate()[1]
    return RunEnd(process.returncode, time.perf_counter() - sent, trained, error)


def print_json(**record: Any) -> None:
    print(json.dumps(record), flush=True)


@click.command()
@click.option("--kills", default=100, show_default=True)
@click.option(
    "--steps",
    default=4000,
    show_default=True,
    help="So many that the run does not end before the last kill.",
)
@click.option(
    "--seconds", default=12.0, show_default=True, help="Latest moment of a kill after a start."
)
@click.option("--seed", default=0, show_default=True)
def main(kills: int, steps: int, seconds: float, seed: int) -> None:
    """Print the end of every process and a summary, one JSON object a line."""
    # A shell starts background jobs with SIGINT ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    options = ["--train.steps", str(steps), "--train.patience", "0", "--train.sample_every", "500"]
    draw, ends, delays = random.Random(seed), Counter[str](), []
    with tempfile.TemporaryDirectory() as scratch:
        uninterrupted, run = Path(scratch) / "whole", Path(scratch) / "stopped"
        if start_or_resume(uninterrupted, options).wait():
            raise click.ClickException("the uninterrupted run failed")
        for kill in range(kills):
            kill_signal = draw.choice(SIGNALS)
            process = start_or_resume(run, options)
            end = kill_after(draw.uniform(0, seconds), run, process, kill_signal)
            saved = (
                end.status == 128 + kill_signal and "python train.py --resume" in end.error_output
            )
            outcome = "saved" if saved else "training" if end.trained else "starting"
            ends[f"{kill_signal.name}, {outcome}"] += 1
            must_save = end.trained and kill_signal != signal.SIGKILL
            if end.status not in (-kill_signal, 128 + kill_signal) or (must_save and not saved):
                raise click.ClickException(f"kill {kill} by {kill_signal.name} ended as {end}")
            if saved:
                delays.append(end.seconds)
            steps_saved = checkpoint.list_steps(run / "checkpoints")
            print_json(kill=kill, signal=kill_signal.name, **end._asdict(), checkpoints=steps_saved)
        if start_or_resume(run, []).wait():
            raise click.ClickException("the last resume failed")
        same = fingerprint(run) == fingerprint(uninterrupted)
        slowest = max(delays, default=0)
        print_json(kills=kills, ends=ends, slowest_save_and_exit_seconds=slowest, same=same)
        sys.exit(not same)


if __name__ == "__main__":
    main()
