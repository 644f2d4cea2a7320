"""Sections of `gpu.py` that time training: the default model and GPT-2's shapes, beside PyTorch.

Every competitor has a process. All processes prepare their work at the same time; then they are
measured in turns, one at a time.
"""

import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from gpu import ROOT, record
from gpu_tasks import (
    OUT,
    TINY,
    prepare_nanogpt,
    prepare_ours,
    prepare_torch,
    profile,
    time_step,
)

ROUNDS = 2 if TINY else 3
Pools = dict[str, ProcessPoolExecutor]
Calls = dict[str, tuple[Any, ...]]  # competitor: a function of gpu_tasks and its arguments
Descriptions = dict[str, dict[str, Any]]


@contextlib.contextmanager
def start_workers(names: Iterable[str]) -> Iterator[Pools]:
    """Start a process per name; each keeps what it prepares."""
    # The processes share a card, so none may take all of its memory.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    pools = {name: ProcessPoolExecutor(1, mp_context=get_context("spawn")) for name in names}
    try:
        yield pools
    finally:
        for pool in pools.values():
            pool.shutdown(cancel_futures=True)


def prepare(section: str, pools: Pools, calls: Calls) -> Descriptions:
    """Let all processes prepare their work; record and leave out those that fail."""
    futures = {name: pools[name].submit(*call) for name, call in calls.items()}
    ready = {}
    for name, future in futures.items():
        try:
            ready[name] = future.result()
            record(section, ready=name, **ready[name])
        except Exception as error:
            record(section, ready=name, failed=f"{type(error).__name__}: {error}"[:2000])
    return ready


def measure_in_turns(section: str, pools: Pools, ready: Descriptions, steps: int) -> None:
    """Time the steps of all competitors in every round, and record the medians."""
    times: dict[str, list[float]] = {name: [] for name in ready}
    for _, name in itertools.product(range(ROUNDS), ready):
        times[name].append(pools[name].submit(time_step, steps).result())
    for name, seconds in times.items():
        speed = ready[name]["tokens"] / statistics.median(seconds)
        mfu = speed * ready[name].get("flop_per_token", 0) / ready[name].get("peak_flops", 1)
        milliseconds = [round(s * 1e3, 3) for s in seconds]
        record(section, who=name, ms=milliseconds, tokens_per_second=speed, mfu=mfu)


def default() -> None:
    """Time `python train.py` from start to end, and until its first ten steps."""
    run = OUT / "default"
    command = [sys.executable, "train.py", "--out", str(run), "--wandb.mode", "off"]
    if TINY:
        command += ["--train.steps", "40"]
        for name in ("eval_every", "sample_every", "checkpoint_every"):
            command += [f"--train.{name}", "20"]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT)
    metrics = run / "metrics.jsonl"
    line_times = dict[int, float]()  # number of lines: when the log first had so many
    while process.poll() is None:
        if metrics.exists():
            count = metrics.read_bytes().count(b"\n")
            line_times.setdefault(count, time.perf_counter() - start)
        time.sleep(0.01)
    seconds = time.perf_counter() - start
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]

    def read_values(key: str) -> list[float]:
        return [line[key] for line in lines if key in line]

    record(
        "default",
        status=process.returncode,
        seconds=seconds,
        first_ten_steps_s=next((at for count, at in line_times.items() if count), None),
        seconds_at_lines={n: round(at, 2) for n, at in line_times.items() if n % 80 < 3},
        held_out=read_values("held_out/nats_per_token"),
        steps_per_second=statistics.median(read_values("train/tokens_per_second")) / 1024,
        grammatical=read_values("samples/grammatical"),
    )


def dispatch() -> None:
    """Time the default step with 1 to 100 steps per dispatch, and PyTorch's in three modes."""
    calls: Calls = {}
    keys = ("train.eval_every", "train.sample_every", "train.checkpoint_every")
    for n in (1, 10, 50, 100):
        overrides = {"train.steps_per_dispatch": n, **dict.fromkeys(keys, 8000)}
        calls[f"ours, {n} a dispatch"] = (prepare_ours, "valyrian.toml", overrides)
    for mode in ("eager", "compiled", "graphs"):
        calls[f"PyTorch, {mode}"] = (prepare_torch, mode, 16)
    with start_workers(calls) as pools:
        ready = prepare("dispatch", pools, calls)
        measure_in_turns("dispatch", pools, ready, 100 if TINY else 300)
        if not TINY and "ours, 10 a dispatch" in ready:
            shares = pools["ours, 10 a dispatch"].submit(profile, "default").result()
            record("dispatch", profile=shares)


def make_overrides(windows: int = 32, accumulate: int = 4) -> dict[str, Any]:
    """Return overrides of a preset: windows at a time, and how often before an update."""
    overrides = {
        "train.batch_size": (2 if TINY else windows) * accumulate,
        "train.accumulate": accumulate,
        "train.device": "auto",
    }
    shape = {"n_layer": 2, "n_embd": 64, "n_head": 2, "n_positions": 64} if TINY else {}
    return overrides | {f"model.{name}": size for name, size in shape.items()}


def large() -> None:
    """Time our step of GPT-2 124M in bfloat16, 32 windows at a time, and nanoGPT's."""
    calls: Calls = {"ours": (prepare_ours, "gpt2-124m.toml", make_overrides())}
    if os.environ.get("GPU_BENCH_NANOGPT"):
        calls["nanoGPT"] = (prepare_nanogpt, 2 if TINY else 32, 4)
    with start_workers(calls) as pools:
        ready = prepare("large", pools, calls)
        measure_in_turns("large", pools, ready, 3)
        if not TINY and "ours" in ready:
            record("large", profile=pools["ours"].submit(profile, "gpt2-124m").result())


def ways() -> None:
    """Time other ways to compute GPT-2 124M in bfloat16, two at a time because of the memory."""
    groups: list[dict[str, tuple[Any, ...]]] = [
        {
            "scan": (make_overrides() | {"train.scan_layers": True},),
            "half the batch": (make_overrides(16),),
        },
        {
            "remat": (make_overrides() | {"train.remat": True},),
            "half the batch, own attention": (make_overrides(16), "own"),
        },
    ]
    for group in groups:
        calls = {name: (prepare_ours, "gpt2-124m.toml", *args) for name, args in group.items()}
        with start_workers(calls) as pools:
            measure_in_turns("ways", pools, prepare("ways", pools, calls), 3)


def larger() -> None:
    """Time 124M with twice the windows, 350M and 774M in bfloat16, one after the other."""
    cases = {
        "124M, batch 64": ("gpt2-124m.toml", make_overrides(64, 2)),
        "350M, batch 16": ("gpt2-350m.toml", make_overrides(16, 2)),
        "774M, batch 16": ("gpt2-774m.toml", make_overrides(16, 1)),
    }
    for name, case in cases.items():
        with start_workers([name]) as pools:
            ready = prepare("larger", pools, {name: (prepare_ours, *case)})
            measure_in_turns("larger", pools, ready, 2)
