"""How long it takes until something is learnt: to the first steps, and to the loss that PyTorch's AdamW ends with."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from measuring import ROOT, Row, in_turns

BASELINE = ROOT / "tests" / "bench" / "baseline.py"
OURS = ("--config", "configs/quick.toml")


def rows(rounds: int) -> Iterator[Row]:
    """Both rows."""
    with tempfile.TemporaryDirectory() as directory:
        cache = Path(directory, "cache")
        first_steps(Path(directory, "run"), cache)
        work = {
            "train.py": lambda: first_steps(Path(directory, "run"), None),
            "the same, programs kept by JAX": lambda: first_steps(Path(directory, "run"), cache),
        }
        yield Row("from the command to the end of the first ten steps", "s", in_turns(work, rounds))
        yield to_the_same_loss(Path(directory))


def first_steps(run: Path, cache: Path | None) -> float:
    shutil.rmtree(run, ignore_errors=True)
    begin = time.perf_counter()
    environment = {**os.environ, **({"JAX_COMPILATION_CACHE_DIR": str(cache)} if cache else {})}
    command = [sys.executable, "train.py", "--out", str(run), "--train.device", "cpu"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    metrics = run / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    took = time.perf_counter() - begin
    process.kill()
    process.wait()
    return took


def to_the_same_loss(directory: Path) -> Row:
    """Wall-clock from the commands to their ends, ours with a loss that is not above the baseline's."""
    baseline, run = directory / "baseline.json", directory / "quick"
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, BASELINE, baseline], check=True, cwd=ROOT, stdout=subprocess.DEVNULL
    )
    theirs = time.perf_counter() - begin
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "train.py", *OURS, "--out", run],
        check=True,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    ours = time.perf_counter() - begin
    theirs_loss = json.loads(baseline.read_text())["nats_per_token"]
    ours_loss = json.loads((run / "bundle" / "manifest.json").read_text())["held_out"][
        "nats_per_token"
    ]
    assert ours_loss <= theirs_loss, (ours_loss, theirs_loss)
    what = f"from the command to a held-out loss of {theirs_loss:.3f} nats (ours: {ours_loss:.3f})"
    return Row(what, "s", {"train.py": [ours], "PyTorch, AdamW, 2,000 steps of batch 12": [theirs]})
