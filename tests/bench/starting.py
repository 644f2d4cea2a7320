"""Measure the time to the first steps, and to the final loss of the PyTorch baseline."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measuring import ROOT, Row, measure_in_turns, time_call

BASELINE = ROOT / "tests" / "bench" / "baseline.py"
QUICK_OPTIONS = ("--config", "configs/quick.toml")


def measure(rounds: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as directory:
        run, cache = Path(directory, "run"), Path(directory, "cache")
        time_first_steps(run, cache)  # fills the cache
        tasks = {
            "train.py": lambda: time_first_steps(run, None),
            "with JAX's compilation cache": lambda: time_first_steps(run, cache),
        }
        title = "from the command to the end of the first ten steps"
        yield Row(title, "s", measure_in_turns(tasks, rounds))
        yield measure_time_to_loss(Path(directory))


def time_first_steps(run: Path, cache: Path | None) -> float:
    """Return the seconds from the command until the first ten steps are logged."""
    shutil.rmtree(run, ignore_errors=True)
    start = time.perf_counter()
    environment = {**os.environ, **describe_cache(cache)}
    command = [sys.executable, "train.py", "--out", str(run), "--train.device", "cpu"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    metrics = run / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    seconds = time.perf_counter() - start
    process.kill()
    process.wait()
    return seconds


def describe_cache(cache: Path | None) -> dict[str, str]:
    """Return the environment in which JAX caches programs there, or not at all."""
    if cache is None:
        return {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    return {"JAX_COMPILATION_CACHE_DIR": str(cache)}


def run_python(*arguments: Any) -> None:
    environment = {**os.environ, **describe_cache(None)}
    command = [sys.executable, *arguments]
    subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


def measure_time_to_loss(directory: Path) -> Row:
    """Time both commands, and check that our loss is not above the baseline's."""
    baseline, run = directory / "baseline.json", directory / "quick"
    baseline_seconds = time_call(lambda: run_python(BASELINE, baseline))
    our_seconds = time_call(lambda: run_python("train.py", *QUICK_OPTIONS, "--out", run))
    manifest = json.loads((run / "bundle" / "manifest.json").read_text())
    baseline_loss = json.loads(baseline.read_text())["nats_per_token"]
    our_loss = manifest["held_out"]["nats_per_token"]
    assert our_loss <= baseline_loss, (our_loss, baseline_loss)
    title = (
        f"from the command to a held-out loss of {baseline_loss:.3f} nats (ours: {our_loss:.3f})"
    )
    return Row(
        title,
        "s",
        {"train.py": [our_seconds], "PyTorch, AdamW, 2,000 steps of batch 12": [baseline_seconds]},
    )
