"""Sections of `gpu.py` that compare values: GPU against CPU, run against run, text against text."""

import functools
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from gpu import ROOT, record

TINY = bool(os.environ.get("GPU_BENCH_TINY"))
OUT = Path(os.environ.get("GPU_BENCH_OUT", "."))
STEPS = 20 if TINY else 200
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several sections share the device


def gpu() -> str:
    return "cpu" if TINY else "cuda"


def distance(found: Any, expected: Any) -> float:
    """The norm of the difference of two trees of arrays, as a share of the second one's norm."""
    import jax

    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True))
    apart = sum(float(np.sum(np.square(np.subtract(a, b, dtype=np.float64)))) for a, b in pairs)
    return float(
        np.sqrt(apart / sum(float(np.sum(np.square(b, dtype=np.float64))) for _, b in pairs))
    )


def parity() -> None:
    """The default model on CPU and GPU: logits, gradients, one update, and the losses of 200 steps."""
    import jax
    import jax.numpy as jnp

    from valyrian_jax.config import load_config
    from valyrian_jax.data.dataset import open_dataset
    from valyrian_jax.model import sharding
    from valyrian_jax.model.compute_options import ComputeOptions
    from valyrian_jax.model.gpt import forward
    from valyrian_jax.training.optimizer import make_optimizer
    from valyrian_jax.training.train_step import init_state, make_train_step, value_and_gradients

    settings = load_config(ROOT / "configs" / "valyrian.toml")
    dataset = open_dataset(settings, None, OUT / "parity")
    windows = dataset.batches(0, STEPS)
    optimizer = make_optimizer(settings.optim, settings.train.steps)

    def values(platform: str, precision: str) -> tuple[Any, np.ndarray]:
        mesh = sharding.make_mesh(settings.mesh, jax.devices(platform)[:1])
        with jax.default_device(jax.devices(platform)[0]), jax.default_matmul_precision(precision):
            before = init_state(settings, optimizer, mesh=mesh)
            logits = jax.jit(functools.partial(forward, config=settings.model))(
                before.params, windows[0, :, :-1]
            )
            gradients = jax.jit(functools.partial(value_and_gradients, settings))(
                before.params, windows[0], jax.random.key(0)
            )[1]
            first = jax.tree.map(np.asarray, (logits, gradients, before.params))
            train_step = make_train_step(settings, optimizer, ComputeOptions(mesh=mesh))
            now, losses, updated = before, [], None
            for i in range(0, STEPS, 10):
                count = (
                    [windows[i : i + 1], windows[i + 1 : i + 10]]
                    if i == 0
                    else [windows[i : i + 10]]
                )
                for part in count:
                    now, metrics = train_step(
                        now, jnp.asarray(part, device=sharding.batch_sharding(mesh))
                    )
                    losses.append(np.asarray(metrics.loss))
                    updated = jax.tree.map(np.asarray, now.params) if updated is None else updated
        return (*first[:2], jax.tree.map(np.subtract, updated, first[2])), np.concatenate(losses)

    expected, losses = values("cpu", "highest")
    for precision in ("highest", "default"):
        found, theirs = values(gpu(), precision)
        names = ("logits", "gradients", "update")
        record(
            "parity",
            precision=precision,
            **{name: distance(a, b) for name, a, b in zip(names, found, expected, strict=True)},
            loss_first=float(theirs[0]),
            loss_last=[float(theirs[-1]), float(losses[-1])],
            loss_apart={
                str(n): float(np.abs(theirs[:n] - losses[:n]).max())
                for n in (1, 10, 50, STEPS)
                if n <= STEPS
            },
        )


SMALL = ["--config", "configs/valyrian.toml", "--wandb.mode", "off", "--train.steps", str(STEPS)]
SMALL += [
    "--train.eval_every",
    str(STEPS // 2),
    "--train.sample_every",
    "0",
    "--train.checkpoint_every",
    "10",
]
SHAPES = {
    "float32": [],
    "bfloat16": [
        *("--train.dtype", "bfloat16", "--model.n_embd", "256", "--model.n_positions", "256"),
        *("--train.batch_size", "8"),
    ],
}


def resume() -> None:
    """Two deterministic runs are equal bit for bit, and one that is killed and resumed is equal to them."""
    names, where = ("first", "second", "killed"), OUT / "resume"
    runs = {
        (shape, name): train(
            "--out", str(where / shape / name), *SMALL, *options, "--train.deterministic", "true"
        )
        for shape, options in SHAPES.items()
        for name in names
    }
    for shape in SHAPES:
        run, process = where / shape / "killed", runs[shape, "killed"]
        while process.poll() is None and not [*(run / "checkpoints").glob("[1-9]*")]:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        runs[shape, "killed"] = train("--resume", str(run))
    for shape in SHAPES:
        ends = {name: runs[shape, name].wait() for name in names}
        if any(ends.values()):
            record("resume", shape=shape, exit_codes=ends)
            continue
        hashes = {name: fingerprint(where / shape / name) for name in names}
        record("resume", shape=shape, equal=len({*hashes.values()}) == 1, hashes=hashes)
    shutil.rmtree(where)


def train(*arguments: str) -> subprocess.Popen[bytes]:
    """Start a training run."""
    return subprocess.Popen([sys.executable, "train.py", *arguments], cwd=ROOT)


def fingerprint(run: Path) -> str:
    """A hash of the last state of a run and its losses."""
    digest = hashlib.sha256((run / "bundle" / "model.safetensors").read_bytes())
    last = max((run / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    digest.update(last.name.encode())
    for line in (run / "metrics.jsonl").read_text().splitlines():
        values = json.loads(line)
        digest.update(
            repr((values.get("train/loss"), values.get("held_out/nats_per_token"))).encode()
        )
    return digest.hexdigest()


def tests() -> None:
    """The tests that are marked gpu."""
    files = ["tests/training/test_gpu.py", "tests/bridge/test_gpu.py"]
    options = [
        "-o",
        "addopts=",
        "-o",
        "filterwarnings=default",
        "-p",
        "no:cacheprovider",
        "-v",
        "--durations=20",
    ]
    began, output = time.monotonic(), OUT / "pytest.txt"
    with output.open("wb") as file:  # as it goes, so that what was done is known if time runs out
        command = [sys.executable, "-m", "pytest", *options, *([] if TINY else ["--gpu"]), *files]
        status = subprocess.run(command, cwd=ROOT, stdout=file, stderr=file).returncode
    lines = output.read_text(encoding="utf-8").splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR", "E  "))]
    record(
        "tests", status=status, seconds=time.monotonic() - began, end=lines[-1:], failed=failed[:20]
    )


def texts() -> None:
    """The same texts from JAX and TorchScript on the GPU and on the CPU, for 100 seeds."""
    import jax
    import torch

    from bridge import torchscript
    from valyrian_jax.bundle.bundle import load_bundle
    from valyrian_jax.config import SampleConfig
    from valyrian_jax.generation.generate import stream_tokens
    from valyrian_jax.model.parameters import from_tensors

    path, seeds, new = Path(os.environ["GPU_BENCH_BUNDLE"]), 4 if TINY else 100, 20 if TINY else 100
    source, file = load_bundle(path), OUT / "texts.pt"
    torchscript.export(path, file)
    prompt, sample = source.tokenizer.encode("valar"), SampleConfig("", new, 0.8, 0, 0.95, 0)

    def from_jax(platform: str, precision: str) -> np.ndarray:
        with jax.default_device(jax.devices(platform)[0]), jax.default_matmul_precision(precision):
            params = from_tensors(source.tensors)
            return np.stack(
                list(stream_tokens(params, source.model, prompt, sample, seeds)), axis=1
            )

    def from_script(device: str) -> np.ndarray:
        script = torch.jit.load(str(file), map_location=device)
        start = torch.tensor([prompt] * seeds, device=device)
        return script.generate(start, new, 0.8, 0, 0.95, 0)[:, len(prompt) :].cpu().numpy()

    expected = from_jax("cpu", "highest")
    torch_gpu = "cpu" if TINY else "cuda"
    ways = {
        "JAX, highest": lambda: from_jax(gpu(), "highest"),
        "JAX, default": lambda: from_jax(gpu(), "default"),
        "TorchScript on the CPU": lambda: from_script("cpu"),
        "TorchScript": lambda: from_script(torch_gpu),
    }
    for name, way in ways.items():
        began = time.monotonic()
        found = way()
        parts = [
            (int(row), int((found[row] != expected[row]).argmax()))
            for row in (found != expected).any(1).nonzero()[0]
        ]
        record(
            "texts",
            runtime=name,
            texts=seeds,
            tokens=new,
            part_at=parts,
            seconds=time.monotonic() - began,
        )
    script = torch.jit.load(str(file), map_location=torch_gpu)
    plain = torch.jit.load(str(file), map_location="cpu")
    words = [
        [module.generate_text("valar", new, 0.8, 0, 0.95, n) for n in range(10)]
        for module in (script, plain)
    ]
    record("texts", runtime="generate_text", texts=10, equal=words[0] == words[1])


def generate() -> None:
    """Tokens per second for 1 and 256 texts: JAX, TorchScript and transformers on the GPU."""
    import jax
    import torch
    import transformers

    from bridge import torchscript
    from valyrian_jax.bundle.bundle import load_bundle
    from valyrian_jax.config import SampleConfig
    from valyrian_jax.generation.generate import stream_tokens
    from valyrian_jax.model.parameters import from_tensors

    path, new = Path(os.environ["GPU_BENCH_BUNDLE"]), 8 if TINY else 60
    source, file, device = load_bundle(path), OUT / "generate.pt", "cpu" if TINY else "cuda"
    torchscript.export(path, file)
    script = torch.jit.load(str(file), map_location=device)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(path).eval().to(device)
    theirs.generation_config.eos_token_id = None
    params, prompt = from_tensors(source.tensors), source.tokenizer.encode("valar")
    sample = SampleConfig("", new, 0.8, 0, 0.95, 0)
    record(
        "generate",
        device=str(jax.devices()[0]),
        parameters=sum(a.size for a in source.tensors.values()),
    )
    settings = {"do_sample": True, "top_k": 0, "top_p": 0.95, "temperature": 0.8, "pad_token_id": 0}
    for rows in (1, 256):
        start = torch.tensor([prompt] * rows, device=device)
        ways = {
            "JAX": lambda rows=rows: list(
                stream_tokens(params, source.model, prompt, sample, rows)
            ),
            "TorchScript": lambda start=start: script.generate(start, new, 0.8, 0, 0.95, 0).cpu(),
            "transformers": lambda start=start: theirs.generate(
                start, max_new_tokens=new, **settings
            ).cpu(),
        }
        for way in ways.values():
            way()
        for name, way in [item for _ in range(3) for item in ways.items()]:
            began = time.monotonic()
            way()
            record(
                "generate",
                runtime=name,
                rows=rows,
                tokens_per_second=rows * new / (time.monotonic() - began),
            )
