"""Training steps that the processes of `gpu_training` prepare and time: ours and PyTorch's."""

import gzip
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gpu import ROOT
from gpu_profile import summarize_trace

TINY = bool(os.environ.get("GPU_BENCH_TINY"))
OUT = Path(os.environ.get("GPU_BENCH_OUT", "."))
DEVICE = "cpu" if TINY else "cuda"

# What this process has prepared: `run`, a function of the number of steps, and for our own step the
# `text` of its program and the `steps` of a dispatch.
_prepared: dict[str, Any] = {}


def time_step(steps: int) -> float:
    """Return the seconds of a step, over some steps."""
    start = time.perf_counter()
    _prepared["run"](steps)
    return (time.perf_counter() - start) / steps


def profile(name: str) -> dict[str, Any]:
    """Trace four dispatches of our step, and divide the time of the device by purpose."""
    import jax

    with jax.profiler.trace(OUT / "trace" / name):
        _prepared["run"](4 * _prepared["steps"])
    with gzip.open(OUT / f"{name}.hlo.txt.gz", "wt") as file:
        file.write(_prepared["text"])
    (trace,) = (OUT / "trace" / name).rglob("*.xplane.pb")
    return summarize_trace(trace, _prepared["text"], OUT / f"{name}.kernels.json")


def prepare_ours(
    preset: str, overrides: dict[str, Any], attention: str | None = None
) -> dict[str, Any]:
    """Compile our training step of a preset, with batches on the device."""
    import jax
    import jax.numpy as jnp

    from valyrian_jax.config import load_config
    from valyrian_jax.model import sharding
    from valyrian_jax.model.compute_options import choose_options
    from valyrian_jax.training.optimizer import make_optimizer
    from valyrian_jax.training.train_step import init_state, make_train_step

    config, device = load_config(ROOT / "configs" / preset, overrides), jax.devices(DEVICE)[0]
    mesh = sharding.make_mesh(config.mesh, [device])
    options = choose_options(config, device, mesh)
    options = options._replace(attention=attention) if attention else options
    optimizer = make_optimizer(config.optim, config.train.steps)
    state = init_state(config, optimizer, mesh=mesh)
    train, model = config.train, config.model
    shape = train.steps_per_dispatch, train.batch_size, model.n_positions + 1
    windows = np.random.default_rng(0).integers(0, model.vocab_size, shape, np.int32)
    batches = jnp.asarray(windows, device=sharding.batch_sharding(mesh))
    start = time.perf_counter()
    compiled = make_train_step(config, optimizer, options).lower(state, batches).compile()
    seconds = time.perf_counter() - start

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps // train.steps_per_dispatch):
            state, metrics = compiled(state, batches)
        assert np.isfinite(np.asarray(metrics.loss)).all()

    run(2 * train.steps_per_dispatch)
    text = compiled.as_text()
    _prepared.update(run=run, text=text, steps=train.steps_per_dispatch)
    return {
        "attention": options.attention,
        "compile_s": seconds,
        "temporary_gb": compiled.memory_analysis().temp_size_in_bytes / 1e9,
        **describe_step(config, device, text),
    }


def describe_step(config: Any, device: Any, text: str) -> dict[str, Any]:
    """Return the peak memory, the work and the kernels of our step, from its program's text."""
    from valyrian_jax.training.devices import flops_per_token, peak_flops

    return {
        "peak_gb": (device.memory_stats() or {}).get("peak_bytes_in_use", 0) / 1e9,
        "tokens": config.train.batch_size * config.model.n_positions,
        "flop_per_token": flops_per_token(config.model),
        "peak_flops": peak_flops(device.device_kind, config.train.dtype) or np.inf,
        "calls": Counter(re.findall(r'custom_call_target="([^"]*)"', text)),
        "triton_products": len(re.findall(r"= \S+ fusion\(.*__triton_\w*gemm", text)),
    }


def prepare_torch(mode: str, batch: int) -> dict[str, Any]:
    """Prepare a step of the bridge's module in the default shape, with TF32 products as in JAX.

    Args:
        mode: "eager", "compiled", or "graphs" for CUDA graphs.
        batch: Windows in a step.
    """
    import torch

    from bridge.gpt import GPT
    from valyrian_jax.config import ModelConfig

    torch.set_float32_matmul_precision("high")
    torch.manual_seed(0)
    module = GPT(ModelConfig()).to(DEVICE)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    data = torch.randint(500, (10, batch, 65), device=DEVICE)

    def compute_loss(tokens: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(
            module(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()
        )

    loss: Any = compute_loss
    if mode != "eager":
        loss = torch.compile(loss, mode="reduce-overhead" if mode == "graphs" else None)
    parameters = list(module.parameters())
    return {"tokens": batch * 64} | prepare_torch_step(
        parameters, lambda i: loss(data[i % 10]), 0.99
    )


def prepare_torch_step(
    parameters: list[Any], loss: Callable[[int], Any], beta2: float, accumulate: int = 1
) -> dict[str, Any]:
    """Run the first PyTorch steps: forward, backward, clipping, fused AdamW."""
    import torch

    optimizer = torch.optim.AdamW(
        parameters, lr=1e-4, betas=(0.9, beta2), weight_decay=0.1, fused=True
    )
    synchronize = torch.cuda.synchronize if DEVICE == "cuda" else lambda: None

    def run(steps: int) -> None:
        for i in range(steps):
            for microbatch in range(accumulate):
                torch.compiler.cudagraph_mark_step_begin()
                (loss(i * accumulate + microbatch) / accumulate).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        synchronize()

    start = time.perf_counter()
    run(5 if accumulate == 1 else 2)
    _prepared.update(run=run)
    peak = torch.cuda.max_memory_allocated() / 1e9 if DEVICE == "cuda" else 0.0
    return {"compile_s": time.perf_counter() - start, "peak_gb": peak}


def prepare_nanogpt(batch: int, accumulate: int) -> dict[str, Any]:
    """Prepare nanoGPT's step: compiled, bfloat16 by autocast, flash attention."""
    sys.path.insert(0, os.environ["GPU_BENCH_NANOGPT"])
    import torch
    from model import GPT, GPTConfig

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    shape = {"n_layer": 2, "n_embd": 64, "n_head": 2, "block_size": 64} if TINY else {}
    config = GPTConfig(**shape, bias=True, dropout=0.0)
    module = GPT(config).to(DEVICE)
    compiled = torch.compile(module)
    tokens = torch.randint(50257, (batch, config.block_size + 1), device=DEVICE)
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def loss(_: int) -> torch.Tensor:
        with torch.autocast(DEVICE, torch.bfloat16):
            return compiled(inputs, targets)[1]

    description = {"tokens": inputs.numel() * accumulate}
    return description | prepare_torch_step(list(module.parameters()), loss, 0.95, accumulate)
