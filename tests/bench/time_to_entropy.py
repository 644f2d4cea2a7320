"""Time from the command to a loss near the entropy of the source: a race with rules.

python tests/bench/time_to_entropy.py [--command COMMAND] [--seeds 3] [--tiny]

The clock starts with the command and includes imports, reading the text, the tokenizer, compilation
and evaluation. It stops at the first evaluation on the whole held-out part that is at most 0.20,
0.15 or 0.10 bits per byte above the entropy of the text. COMMAND may be any program that trains on
the shipped corpus and adds a JSON line to {out}/metrics.jsonl at each evaluation, with
held_out/bits_per_byte and held_out/entropy_bits_per_byte; {seed} differs in every run. It may end
whenever it likes.
"""

import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).parents[2]
GOALS, TINY_GOALS = (0.20, 0.15, 0.10), (5.0, 4.0)  # bits per byte above the source
DEFAULT = "train.py --out {out} --train.seed {seed} --train.eval_every 200 --wandb.mode off"
TINY = (
    "train.py --config tiny --out {out} --train.seed {seed} --train.steps 20 --train.eval_every 10 "
    "--train.sample_every 0 --wandb.mode off"
)
_POLL = 0.05  # seconds between two looks at the file


def time_goals(command: str, seed: int, goals: Sequence[float]) -> dict[float, float]:
    """Run a command; return the seconds to each goal that it reached."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "run"
        arguments = [word.format(out=out, seed=seed) for word in shlex.split(command)]
        start = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL
        ) as process:
            evaluations = watch_evaluations(process, out / "metrics.jsonl", start)
            reached = find_times(evaluations, goals)
        if process.returncode:
            raise click.ClickException(f"{command} ended with status {process.returncode}")
    return reached


def watch_evaluations(
    process: "subprocess.Popen[bytes]", file: Path, start: float
) -> Iterator[tuple[float, float]]:
    """Yield the seconds of each evaluation, and its bits per byte above the source."""
    position, is_running = 0, True
    while is_running:
        is_running = process.poll() is None
        seconds = time.perf_counter() - start
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        end = text.rfind("\n") + 1  # The rest is a line that is still being written.
        for line in text[position:end].splitlines():
            if (excess := read_excess(json.loads(line))) is not None:
                yield seconds, excess
        position = end
        time.sleep(_POLL if is_running else 0)


def read_excess(record: Mapping[str, Any]) -> float | None:
    """Return the bits per byte above the source of a line; None if it is no evaluation."""
    names = "held_out/bits_per_byte", "held_out/entropy_bits_per_byte"
    if any(name not in record for name in names):
        return None
    loss, entropy = (float(record[name]) for name in names)
    return loss - entropy


def find_times(
    evaluations: Iterator[tuple[float, float]], goals: Sequence[float]
) -> dict[float, float]:
    """Return the seconds of the first evaluation that reaches each goal."""
    reached: dict[float, float] = {}
    for seconds, excess in evaluations:
        for goal in goals:
            if excess <= goal:
                reached.setdefault(goal, seconds)
    return reached


def describe_goal(times: Sequence[float], count: int) -> str:
    """Return the mean time to a goal with the lowest and highest, in words."""
    if len(times) < count:
        return f"reached in {len(times)} of {count}"
    return f"{statistics.mean(times):.1f} s ({min(times):.1f} to {max(times):.1f})"


@click.command()
@click.option("--command", default=DEFAULT, help="Python program and its arguments.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, help="Number of runs.")
@click.option("--tiny", is_flag=True, help="Rehearse with one run of 20 steps.")
def main(command: str, seeds: int, tiny: bool) -> None:
    """Time a command and print the row of the table of records."""
    goals, seeds = (TINY_GOALS, 1) if tiny else (GOALS, seeds)
    if tiny and command == DEFAULT:
        command = TINY
    runs = [time_goals(command, seed, goals) for seed in range(seeds)]
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    cells = [describe_goal([run[goal] for run in runs if goal in run], seeds) for goal in goals]
    print("| command | " + " | ".join(f"{goal:.2f}" for goal in goals) + " | commit |")
    print("|---" * (len(goals) + 2) + "|")
    print(f"| `{command}` | " + " | ".join(cells) + f" | {commit} |")


if __name__ == "__main__":
    main()
