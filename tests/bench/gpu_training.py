"""Sections of `gpu.py` that time training: the default model and GPT-2's shapes, beside PyTorch on the same card.

What is compared is first made ready in processes of its own, all at once, and then measured in turns, one at a time.
"""

import contextlib
import gzip
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from gpu import ROOT, record

TINY = bool(os.environ.get("GPU_BENCH_TINY"))
OUT = Path(os.environ.get("GPU_BENCH_OUT", "."))
ROUNDS = 2 if TINY else 3
DEVICE = "cpu" if TINY else "cuda"
Ready = dict[str, dict[str, Any]]  # what each process says of its work when it is ready


@contextlib.contextmanager
def workers(names: Iterable[str]) -> Iterator[dict[str, ProcessPoolExecutor]]:
    """Processes by name; what one builds stays there until the end. Memory is taken as needed: they share a card."""
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    pools = {name: ProcessPoolExecutor(1, mp_context=get_context("spawn")) for name in names}
    try:
        yield pools
    finally:
        for pool in pools.values():
            pool.shutdown(cancel_futures=True)


def prepare(
    section: str, pools: dict[str, ProcessPoolExecutor], work: dict[str, tuple[Any, ...]]
) -> Ready:
    """Let every process build its work at the same time; those that cannot are recorded and left out."""
    futures = {name: pools[name].submit(*call) for name, call in work.items()}
    ready = {}
    for name, future in futures.items():
        try:
            ready[name] = future.result()
            record(section, ready=name, **ready[name])
        except Exception as error:
            record(section, ready=name, failed=f"{type(error).__name__}: {error}"[:2000])
    return ready


def in_turns(section: str, pools: dict[str, ProcessPoolExecutor], ready: Ready, steps: int) -> None:
    """Measure what is ready, again and again, and record the median."""
    found: dict[str, list[float]] = {name: [] for name in ready}
    for _, name in itertools.product(range(ROUNDS), ready):
        found[name].append(pools[name].submit(measure, steps).result())
    for name, seconds in found.items():
        speed = ready[name]["tokens"] / statistics.median(seconds)
        mfu = speed * ready[name].get("flop_per_token", 0) / ready[name].get("peak_flops", 1)
        record(
            section,
            who=name,
            ms=[round(s * 1e3, 3) for s in seconds],
            tokens_per_second=speed,
            mfu=mfu,
        )


_work: dict[str, Any] = {}


def measure(steps: int) -> float:
    """Seconds of a step of what this process has prepared."""
    began = time.perf_counter()
    _work["run"](steps)
    return (time.perf_counter() - began) / steps


def prepare_ours(
    preset: str, overrides: dict[str, Any], kernel: str | None = None
) -> dict[str, Any]:
    """Compile our training step of a preset, with batches that stay on the device."""
    import jax
    import jax.numpy as jnp

    from valyrian_jax.config import load_config
    from valyrian_jax.model import sharding
    from valyrian_jax.model.compute_options import choose_options
    from valyrian_jax.training.devices import flops_per_token, peak_flops
    from valyrian_jax.training.optimizer import make_optimizer
    from valyrian_jax.training.train_step import init_state, make_train_step

    settings = load_config(ROOT / "configs" / preset, overrides)
    mesh = sharding.make_mesh(settings.mesh, jax.devices(DEVICE)[:1])
    how = choose_options(settings, jax.devices(DEVICE)[0], mesh)
    how = how._replace(attention=kernel) if kernel else how
    optimizer = make_optimizer(settings.optim, settings.train.steps)
    now = [init_state(settings, optimizer, mesh=mesh)]
    train, shape = settings.train, settings.model
    windows = np.random.default_rng(0).integers(
        0,
        shape.vocab_size,
        (train.steps_per_dispatch, train.batch_size, shape.n_positions + 1),
        np.int32,
    )
    data = jnp.asarray(windows, device=sharding.batch_sharding(mesh))
    began = time.perf_counter()
    compiled = make_train_step(settings, optimizer, how).lower(now[0], data).compile()
    seconds, memory = time.perf_counter() - began, compiled.memory_analysis()

    def run(steps: int) -> None:
        for _ in range(steps // train.steps_per_dispatch):
            now[0], metrics = compiled(now[0], data)
        assert np.isfinite(np.asarray(metrics.loss)).all()

    run(2 * train.steps_per_dispatch)
    device, text = jax.devices(DEVICE)[0], compiled.as_text()
    _work.update(run=run, text=text, steps=train.steps_per_dispatch)
    return {
        "attention": how.attention,
        "compile_s": seconds,
        "temporary_gb": memory.temp_size_in_bytes / 1e9,
        "peak_gb": (device.memory_stats() or {}).get("peak_bytes_in_use", 0) / 1e9,
        "tokens": train.batch_size * shape.n_positions,
        "flop_per_token": flops_per_token(shape),
        "peak_flops": peak_flops(device.device_kind, train.dtype) or np.inf,
        "calls": Counter(re.findall(r'custom_call_target="([^"]*)"', text)),
        "triton_products": len(re.findall(r"= \S+ fusion\(.*__triton_\w*gemm", text)),
    }


def profile(name: str) -> dict[str, Any]:
    """Trace some steps of what this process has prepared: where the time of the device goes."""
    import jax

    steps = _work["steps"]
    with jax.profiler.trace(OUT / "trace" / name):
        _work["run"](4 * steps)
    with gzip.open(OUT / f"{name}.hlo.txt.gz", "wt") as file:
        file.write(_work["text"])
    (trace,) = (OUT / "trace" / name).rglob("*.xplane.pb")
    return kernels(trace, _work["text"], name)


def kernels(trace: Path, text: str, name: str) -> dict[str, Any]:
    """The kernels of a trace by what they are for, in shares of the time between the first and the last."""
    from jax.profiler import ProfileData

    names = re.compile(r"\s*(?:ROOT )?%([\w.\-]+) = ")
    lines = {
        re.sub(r"\W", "_", found[1]): line
        for line in text.splitlines()
        if (found := names.match(line))
    }
    shares: Counter[str] = Counter()
    longest: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    first, last = np.inf, 0.0
    for plane in ProfileData.from_file(str(trace)).planes:
        if not plane.name.startswith("/device:GPU"):
            continue
        for line in plane.lines:
            if not line.name.startswith("Stream"):
                continue
            for event in line.events:
                kind = purpose(event.name, lines.get(event.name, ""))
                shares[kind] += event.duration_ns
                longest[event.name[:90]] += event.duration_ns
                counts[kind] += 1
                first, last = (
                    min(first, event.start_ns),
                    max(last, event.start_ns + event.duration_ns),
                )
    window = max(last - first, 1.0)
    table = {kernel: round(ns / 1e6, 3) for kernel, ns in longest.most_common()}
    (OUT / f"{name}.kernels.json").write_text(json.dumps(table, indent=0))
    return {
        "window_ms": window / 1e6,
        "shares": {kind: ns / window for kind, ns in shares.most_common()}
        | {"gaps": 1 - shares.total() / window},
        "kernels": dict(counts),
        "longest": dict(list(table.items())[:8]),
    }


def purpose(kernel: str, line: str) -> str:
    """What a kernel is for, by its name and the line of the compiled program it belongs to."""
    where = found[1] if (found := re.search(r'op_name="([^"]*)"', line)) else ""
    if re.search(r"memcpy|memset", kernel, re.IGNORECASE):
        return "copies"
    if re.search(r"cudnn|fmha|flash", kernel):
        return "attention"
    if re.search(r"gemm|nvjet|cutlass|cublas|splitK", kernel) or "gemm" in line[:200]:
        return "products"
    shapes = line.split("metadata")[0]
    if "jvp()/reduce" in where or ("50304]" in shapes and "50304,768]" not in shapes):
        return "the head's loss"
    return "blocks" if "GPT" in where else "optimizer and rest"


def prepare_torch(how: str, batch: int) -> dict[str, Any]:
    """A PyTorch step of the default shape: our module of the bridge, AdamW, clipping, TF32 as in JAX."""
    import torch

    from bridge.gpt import GPT
    from valyrian_jax.config import ModelConfig

    torch.set_float32_matmul_precision("high")
    torch.manual_seed(0)
    module = GPT(ModelConfig()).to(DEVICE)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    data = torch.randint(500, (10, batch, 65), device=DEVICE)

    def loss(tokens: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(
            module(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()
        )

    call = (
        loss
        if how == "eager"
        else torch.compile(loss, mode="reduce-overhead" if how == "graphs" else None)
    )
    return torch_step(list(module.parameters()), lambda i: call(data[i % 10]), 0.99) | {
        "tokens": batch * 64
    }


def torch_step(
    parameters: list[Any], loss: Callable[[int], Any], beta2: float, accumulate: int = 1
) -> dict[str, Any]:
    """Time the first steps of PyTorch: forward, backward, clipping, fused AdamW."""
    import torch

    optimizer = torch.optim.AdamW(
        parameters, lr=1e-4, betas=(0.9, beta2), weight_decay=0.1, fused=True
    )
    wait = torch.cuda.synchronize if DEVICE == "cuda" else lambda: None

    def run(steps: int) -> None:
        for i in range(steps):
            for part in range(accumulate):
                torch.compiler.cudagraph_mark_step_begin()
                (loss(i * accumulate + part) / accumulate).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        wait()

    began = time.perf_counter()
    run(5 if accumulate == 1 else 2)
    _work.update(run=run)
    peak = torch.cuda.max_memory_allocated() / 1e9 if DEVICE == "cuda" else 0.0
    return {"compile_s": time.perf_counter() - began, "peak_gb": peak}


def prepare_nanogpt(batch: int, accumulate: int) -> dict[str, Any]:
    """nanoGPT's training step: its module compiled, bfloat16 by autocast, flash attention, clipping, fused AdamW."""
    sys.path.insert(0, os.environ["GPU_BENCH_NANOGPT"])
    import torch
    from model import GPT, GPTConfig

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    shape = {"n_layer": 2, "n_embd": 64, "n_head": 2, "block_size": 64} if TINY else {}
    settings = GPTConfig(**shape, bias=True, dropout=0.0)
    module = GPT(settings).to(DEVICE)
    compiled = torch.compile(module)
    tokens = torch.randint(50257, (batch, settings.block_size + 1), device=DEVICE)
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def loss(_: int) -> torch.Tensor:
        with torch.autocast(DEVICE, torch.bfloat16):
            return compiled(inputs, targets)[1]

    return torch_step(list(module.parameters()), loss, 0.95, accumulate) | {
        "tokens": inputs.numel() * accumulate
    }


def default() -> None:
    """`python train.py` from start to end, and to its first ten steps."""
    run = OUT / "default"
    steps = (
        ["--train.steps", "40", "--train.eval_every", "20", "--train.sample_every", "20"]
        if TINY
        else []
    )
    command = [sys.executable, "train.py", "--out", str(run), "--wandb.mode", "off", *steps]
    began = time.perf_counter()
    process = subprocess.Popen(
        command + (["--train.checkpoint_every", "20"] if TINY else []), cwd=ROOT
    )
    metrics, seen = (
        run / "metrics.jsonl",
        dict[int, float](),
    )  # number of lines: when there were so many
    while process.poll() is None:
        if metrics.exists():
            seen.setdefault(metrics.read_bytes().count(b"\n"), time.perf_counter() - began)
        time.sleep(0.01)
    seconds = time.perf_counter() - began
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    speeds = [
        line["train/tokens_per_second"] for line in lines if "train/tokens_per_second" in line
    ]
    held_out = [
        line["held_out/nats_per_token"] for line in lines if "held_out/nats_per_token" in line
    ]
    record(
        "default",
        status=process.returncode,
        seconds=seconds,
        first_ten_steps_s=next((at for count, at in seen.items() if count), None),
        seconds_at_lines={count: round(at, 2) for count, at in seen.items() if count % 80 < 3},
        held_out=held_out,
        steps_per_second=statistics.median(speeds) / 1024,
        grammatical=[
            line["samples/grammatical"] for line in lines if "samples/grammatical" in line
        ],
    )


def dispatch() -> None:
    """The default model's step, 1 to 100 in a dispatch, beside PyTorch: eager, compiled, with CUDA graphs."""
    ours = {f"ours, {n} a dispatch": n for n in (1, 10, 50, 100)}
    theirs = {f"PyTorch, {how}": how for how in ("eager", "compiled", "graphs")}
    calls: dict[str, tuple[Any, ...]] = {}
    for name, n in ours.items():
        every = dict.fromkeys(
            ("train.eval_every", "train.sample_every", "train.checkpoint_every"), 8000
        )
        calls[name] = (prepare_ours, "valyrian.toml", {"train.steps_per_dispatch": n, **every})
    calls |= {name: (prepare_torch, how, 16) for name, how in theirs.items()}
    with workers(calls) as pools:
        ready = prepare("dispatch", pools, calls)
        in_turns("dispatch", pools, ready, 100 if TINY else 300)
        if not TINY and "ours, 10 a dispatch" in ready:
            record(
                "dispatch", profile=pools["ours, 10 a dispatch"].submit(profile, "default").result()
            )


TINY_SHAPE = {"model.n_layer": 2, "model.n_embd": 64, "model.n_head": 2, "model.n_positions": 64}


def sizes(batch: int = 32, parts: int = 4) -> dict[str, Any]:
    """Overrides of a preset: so many windows at a time, and so many times before an update."""
    found = {
        "train.batch_size": (2 if TINY else batch) * parts,
        "train.accumulate": parts,
        "train.device": "auto",
    }
    return found | (TINY_SHAPE if TINY else {})


def large() -> None:
    """GPT-2 124M in bfloat16 with 32 windows at a time: our step beside nanoGPT's."""
    calls: dict[str, tuple[Any, ...]] = {"ours": (prepare_ours, "gpt2-124m.toml", sizes())}
    if os.environ.get("GPU_BENCH_NANOGPT"):
        calls["nanoGPT"] = (prepare_nanogpt, 2 if TINY else 32, 4)
    with workers(calls) as pools:
        ready = prepare("large", pools, calls)
        in_turns("large", pools, ready, 3)
        if not TINY and "ours" in ready:
            record("large", profile=pools["ours"].submit(profile, "gpt2-124m").result())


def ways() -> None:
    """GPT-2 124M in bfloat16: what the other ways to compute it cost, two at a time for the memory's sake."""
    groups: list[dict[str, tuple[Any, ...]]] = [
        {"scan": (sizes() | {"train.scan_layers": True},), "half the batch": (sizes(16),)},
        {
            "remat": (sizes() | {"train.remat": True},),
            "half the batch, own attention": (sizes(16), "own"),
        },
    ]
    for group in groups:
        calls = {
            name: (prepare_ours, "gpt2-124m.toml", *arguments) for name, arguments in group.items()
        }
        with workers(calls) as pools:
            in_turns("ways", pools, prepare("ways", pools, calls), 3)


def larger() -> None:
    """124M with twice the windows, 350M and 774M in bfloat16; one figure each."""
    cases = {
        "124M, batch 64": ("gpt2-124m.toml", sizes(64, 2)),
        "350M, batch 16": ("gpt2-350m.toml", sizes(16, 2)),
        "774M, batch 16": ("gpt2-774m.toml", sizes(16, 1)),
    }
    for name, case in cases.items():
        with workers([name]) as pools:
            in_turns("larger", pools, prepare("larger", pools, {name: (prepare_ours, *case)}), 2)
