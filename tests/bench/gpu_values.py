"""Sections of `gpu.py` that compare values: GPU with CPU, run with run, text with text."""

import functools
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gpu import ROOT, record

TINY = bool(os.environ.get("GPU_BENCH_TINY"))
OUT = Path(os.environ.get("GPU_BENCH_OUT", "."))
DEVICE = "cpu" if TINY else "cuda"
STEPS = 20 if TINY else 200
# Several sections share the device.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def relative_distance(tree: Any, expected: Any) -> float:
    """Return the norm of the difference of two trees of arrays over the norm of the second."""
    import jax

    pairs = list(zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True))
    squares = sum(float(np.sum(np.square(np.subtract(a, b, dtype=np.float64)))) for a, b in pairs)
    norm = sum(float(np.sum(np.square(b, dtype=np.float64))) for _, b in pairs)
    return float(np.sqrt(squares / norm))


class TrainingValues(NamedTuple):
    """What the default model computes in its first steps."""

    logits: Any
    gradients: Any
    update: Any
    losses: np.ndarray


def compute_training_values(
    config: Any, windows: np.ndarray, platform: str, precision: str
) -> TrainingValues:
    """Train on a platform with a precision of products, for as many steps as there are batches."""
    import jax
    import jax.numpy as jnp

    from valyrian_jax.model import sharding
    from valyrian_jax.model.compute_options import ComputeOptions
    from valyrian_jax.model.gpt import forward
    from valyrian_jax.training.optimizer import make_optimizer
    from valyrian_jax.training.train_step import init_state, make_train_step, value_and_gradients

    device = jax.devices(platform)[0]
    mesh = sharding.make_mesh(config.mesh, [device])
    optimizer = make_optimizer(config.optim, config.train.steps)
    with jax.default_device(device), jax.default_matmul_precision(precision):
        state = init_state(config, optimizer, mesh=mesh)
        logits = jax.jit(functools.partial(forward, config=config.model))(
            state.params, windows[0, :, :-1]
        )
        gradients = jax.jit(functools.partial(value_and_gradients, config))(
            state.params, windows[0], jax.random.key(0)
        )[1]
        # Copies, because a step reuses the memory of the state.
        logits, gradients, initial = jax.tree.map(np.asarray, (logits, gradients, state.params))
        train_step = make_train_step(config, optimizer, ComputeOptions(mesh=mesh))
        losses, params = [], None
        # A dispatch of one step, to see its update, then up to the next multiple of ten.
        for start, end in [(0, 1), (1, 10), *((i, i + 10) for i in range(10, len(windows), 10))]:
            batches = jnp.asarray(windows[start:end], device=sharding.batch_sharding(mesh))
            state, metrics = train_step(state, batches)
            losses.append(np.asarray(metrics.loss))
            params = jax.tree.map(np.asarray, state.params) if params is None else params
    update = jax.tree.map(np.subtract, params, initial)
    return TrainingValues(logits, gradients, update, np.concatenate(losses))


def parity() -> None:
    """Compare the GPU with the CPU: logits, gradients, one update, and the losses of 200 steps."""
    from valyrian_jax.config import load_config
    from valyrian_jax.data.dataset import open_dataset

    config = load_config(ROOT / "configs" / "valyrian.toml")
    windows = open_dataset(config, None, OUT / "parity").batches(0, STEPS)
    expected = compute_training_values(config, windows, "cpu", "highest")
    for precision in ("highest", "default"):
        values = compute_training_values(config, windows, DEVICE, precision)
        names = ("logits", "gradients", "update")
        distances = {
            name: relative_distance(getattr(values, name), getattr(expected, name))
            for name in names
        }
        differences = np.abs(values.losses - expected.losses)
        record(
            "parity",
            precision=precision,
            **distances,
            loss_first=float(values.losses[0]),
            loss_last=[float(values.losses[-1]), float(expected.losses[-1])],
            loss_apart={
                str(n): float(differences[:n].max()) for n in (1, 10, 50, STEPS) if n <= STEPS
            },
        )


COMMON_OPTIONS = [
    *("--config", "configs/valyrian.toml", "--wandb.mode", "off", "--train.deterministic", "true"),
    *("--train.steps", str(STEPS), "--train.eval_every", str(STEPS // 2)),
    *("--train.sample_every", "0", "--train.checkpoint_every", "10"),
]
SHAPES = {
    "float32": [],
    "bfloat16": [
        *("--train.dtype", "bfloat16", "--model.n_embd", "256", "--model.n_positions", "256"),
        *("--train.batch_size", "8"),
    ],
}


def resume() -> None:
    """Compare two deterministic runs, and one that is killed and resumed, bit for bit."""
    names, directory = ("first", "second", "killed"), OUT / "resume"
    runs = {
        (shape, name): start_training(
            "--out", str(directory / shape / name), *COMMON_OPTIONS, *options
        )
        for shape, options in SHAPES.items()
        for name in names
    }
    for shape in SHAPES:
        run, process = directory / shape / "killed", runs[shape, "killed"]
        while process.poll() is None and not [*(run / "checkpoints").glob("[1-9]*")]:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        runs[shape, "killed"] = start_training("--resume", str(run))
    for shape in SHAPES:
        exit_codes = {name: runs[shape, name].wait() for name in names}
        if any(exit_codes.values()):
            record("resume", shape=shape, exit_codes=exit_codes)
            continue
        hashes = {name: hash_run(directory / shape / name) for name in names}
        record("resume", shape=shape, equal=len({*hashes.values()}) == 1, hashes=hashes)
    shutil.rmtree(directory)


def start_training(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "train.py", *arguments], cwd=ROOT)


def hash_run(run: Path) -> str:
    """Return a hash of the weights, the last checkpoint's step and the losses of a run."""
    digest = hashlib.sha256((run / "bundle" / "model.safetensors").read_bytes())
    last = max((run / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    digest.update(last.name.encode())
    for line in (run / "metrics.jsonl").read_text().splitlines():
        values = json.loads(line)
        losses = values.get("train/loss"), values.get("held_out/nats_per_token")
        digest.update(repr(losses).encode())
    return digest.hexdigest()


def tests() -> None:
    """Run the tests that are marked gpu."""
    files = ["tests/training/test_gpu.py", "tests/bridge/test_gpu.py"]
    options = ["-o", "addopts=", "-o", "filterwarnings=default", "-p", "no:cacheprovider"]
    options += ["-v", "--durations=20", *([] if TINY else ["--gpu"])]
    start, output = time.monotonic(), OUT / "pytest.txt"
    with output.open("wb") as file:  # written as it goes, so that a time limit loses nothing
        command = [sys.executable, "-m", "pytest", *options, *files]
        status = subprocess.run(command, cwd=ROOT, stdout=file, stderr=file).returncode
    seconds = time.monotonic() - start
    lines = output.read_text(encoding="utf-8").splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR", "E  "))]
    record("tests", status=status, seconds=seconds, end=lines[-1:], failed=failed[:20])


def texts() -> None:
    """Compare the texts of JAX and TorchScript on GPU and CPU, for 100 seeds."""
    import jax
    import torch
    from same_text import find_differences

    from bridge import torchscript
    from valyrian_jax.bundle.bundle import load_bundle
    from valyrian_jax.config import SampleConfig
    from valyrian_jax.generation.generate import stream_tokens
    from valyrian_jax.model.parameters import from_tensors

    path, seeds, new = Path(os.environ["GPU_BENCH_BUNDLE"]), 4 if TINY else 100, 20 if TINY else 100
    bundle, file = load_bundle(path), OUT / "texts.pt"
    torchscript.export(path, file)
    scripts = {d: torch.jit.load(str(file), map_location=d) for d in (DEVICE, "cpu")}
    prompt, sample = bundle.tokenizer.encode("valar"), SampleConfig("", new, 0.8, 0, 0.95, 0)

    def generate_with_jax(platform: str, precision: str) -> np.ndarray:
        with jax.default_device(jax.devices(platform)[0]), jax.default_matmul_precision(precision):
            params = from_tensors(bundle.tensors)
            rows = stream_tokens(params, bundle.model, [prompt] * seeds, range(seeds), sample)
            return np.stack(list(rows), axis=1)

    def generate_with_torchscript(device: str) -> np.ndarray:
        prompts = torch.tensor([prompt] * seeds, device=device)
        ids = scripts[device].generate(prompts, new, 0.8, 0, 0.95, 0)
        return ids[:, len(prompt) :].cpu().numpy()

    expected = generate_with_jax("cpu", "highest")
    runtimes: dict[str, Callable[[], np.ndarray]] = {
        "JAX, highest": lambda: generate_with_jax(DEVICE, "highest"),
        "JAX, default": lambda: generate_with_jax(DEVICE, "default"),
        "TorchScript on the CPU": lambda: generate_with_torchscript("cpu"),
        "TorchScript": lambda: generate_with_torchscript(DEVICE),
    }
    for name, generate_ids in runtimes.items():
        start = time.monotonic()
        ids = generate_ids()
        values = {"texts": seeds, "tokens": new, "seconds": time.monotonic() - start}
        record("texts", runtime=name, part_at=find_differences(ids, expected), **values)
    on_device, on_cpu = (
        [scripts[device].generate_text("valar", new, 0.8, 0, 0.95, seed) for seed in range(10)]
        for device in (DEVICE, "cpu")
    )
    record("texts", runtime="generate_text", texts=10, equal=on_device == on_cpu)


def generate() -> None:
    """Measure tokens per second for 1 and 256 texts in JAX, TorchScript and transformers."""
    import jax
    import torch
    import transformers

    from bridge import torchscript
    from valyrian_jax.bundle.bundle import load_bundle
    from valyrian_jax.config import SampleConfig
    from valyrian_jax.generation.generate import stream_tokens
    from valyrian_jax.model.parameters import from_tensors

    path, new = Path(os.environ["GPU_BENCH_BUNDLE"]), 8 if TINY else 60
    bundle, file = load_bundle(path), OUT / "generate.pt"
    torchscript.export(path, file)
    script = torch.jit.load(str(file), map_location=DEVICE)
    reference = transformers.AutoModelForCausalLM.from_pretrained(path).eval().to(DEVICE)
    reference.generation_config.eos_token_id = None
    params, prompt = from_tensors(bundle.tensors), bundle.tokenizer.encode("valar")
    sample = SampleConfig("", new, 0.8, 0, 0.95, 0)
    parameters = sum(tensor.size for tensor in bundle.tensors.values())
    record("generate", device=str(jax.devices()[0]), parameters=parameters)
    settings = {"do_sample": True, "top_k": 0, "top_p": 0.95, "temperature": 0.8, "pad_token_id": 0}
    for rows in (1, 256):
        prompts = torch.tensor([prompt] * rows, device=DEVICE)
        runtimes: dict[str, Callable[[], Any]] = {
            "JAX": lambda n=rows: list(
                stream_tokens(params, bundle.model, [prompt] * n, range(n), sample)
            ),
            "TorchScript": lambda p=prompts: script.generate(p, new, 0.8, 0, 0.95, 0).cpu(),
            "transformers": lambda p=prompts: reference.generate(
                p, max_new_tokens=new, **settings
            ).cpu(),
        }
        for run in runtimes.values():
            run()
        for name, run in [item for _ in range(3) for item in runtimes.items()]:
            start = time.monotonic()
            run()
            speed = rows * new / (time.monotonic() - start)
            record("generate", runtime=name, rows=rows, tokens_per_second=speed)
