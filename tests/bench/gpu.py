"""What a GPU does with this project, in at most eight minutes: python tests/bench/gpu.py --out DIR [--sections a,b]

Each section is a process of its own with a time limit and appends JSON lines to DIR/results.jsonl as it goes, so a stop
loses nothing. Sections that only compare values run side by side; those that measure time run alone, one after another.
`--tiny` rehearses all of it on a CPU with shapes that take seconds. `tests/bench/gpu.sh` brings missing packages.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

# Section: where it is, and the seconds it may take. Those of one group run side by side.
GROUPS: list[dict[str, tuple[str, float]]] = [
    {"parity": ("gpu_values", 60)},
    {"tests": ("gpu_values", 90), "texts": ("gpu_values", 90)},
    {"resume": ("gpu_values", 100)},
    {"default": ("gpu_training", 60)},
    {"dispatch": ("gpu_training", 80)},
    {"large": ("gpu_training", 80)},
    {"larger": ("gpu_training", 100)},
    {"generate": ("gpu_values", 60)},
    {"ways": ("gpu_training", 100)},
]


def record(section: str, **values: Any) -> None:
    """Append a result of this process."""
    line = json.dumps({"section": section, "at": round(time.time(), 1), **values})
    with Path(os.environ["GPU_BENCH_OUT"], "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    print(line[:2000], flush=True)


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Directory for the results."
)
@click.option("--sections", default="", help="Some of the sections, with commas [all].")
@click.option("--seconds", type=float, default=480.0, show_default=True, help="For everything.")
@click.option(
    "--bundle", type=click.Path(path_type=Path), help="A trained bundle, for texts and generating."
)
@click.option(
    "--nanogpt",
    type=click.Path(path_type=Path),
    help="A checkout of nanoGPT to measure beside ours.",
)
@click.option("--tiny", is_flag=True, help="Small shapes on the CPU: a rehearsal.")
def main(
    out: Path, sections: str, seconds: float, bundle: Path | None, nanogpt: Path | None, tiny: bool
) -> None:
    """Run the sections, most important first."""
    out.mkdir(parents=True, exist_ok=True)
    settings = {
        "GPU_BENCH_OUT": out.resolve(),
        "GPU_BENCH_BUNDLE": bundle,
        "GPU_BENCH_NANOGPT": nanogpt,
    }
    os.environ |= {name: str(value) for name, value in settings.items() if value}
    os.environ |= (
        {"GPU_BENCH_TINY": "1", "JAX_PLATFORMS": "cpu"} if tiny else {"JAX_PLATFORMS": "cuda,cpu"}
    )
    end = time.monotonic() + seconds
    record("machine", **machine())
    known = {name for group in GROUPS for name in group}
    wanted = set(sections.split(",")) if sections else known
    if unknown := wanted - known:
        raise click.BadParameter(
            f"{', '.join(sorted(unknown))}: expected some of {', '.join(sorted(known))}"
        )
    for group in GROUPS:
        running = {name: start(name, *group[name], end, out) for name in group if name in wanted}
        for name, (process, limit) in running.items():
            finish(name, process, limit)


def start(
    name: str, module: str, seconds: float, end: float, out: Path
) -> tuple[subprocess.Popen[bytes], float]:
    """Start a section; also say when it must be done."""
    code = f"import {module}; {module}.{name}()"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([*sys.path[:2], os.environ.get("PYTHONPATH", "")])
    }
    with (out / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment,
            stdout=log,
            stderr=log,
            cwd=ROOT,
            start_new_session=True,
        )
    return process, min(end, time.monotonic() + seconds)


def finish(name: str, process: subprocess.Popen[bytes], limit: float) -> None:
    """Wait for a section until its limit."""
    began = time.monotonic()
    try:
        status: int | str = process.wait(max(0.0, limit - began))
    except subprocess.TimeoutExpired:
        status = "stopped: out of time"
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # and whatever it has started
    record("end", of=name, status=status, waited_s=round(time.monotonic() - began, 1))


def machine() -> dict[str, Any]:
    """The card, its driver and the versions."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, Any] = {"python": sys.version.split()[0], "cores": os.cpu_count()}
    for package in (
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "torch",
        "transformers",
        "nvidia-cudnn-cu13",
        "nvidia-cublas",
    ):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    query = [
        "nvidia-smi",
        "--query-gpu=name,driver_version,clocks.max.sm,power.limit",
        "--format=csv,noheader",
    ]
    try:
        found["gpu"] = subprocess.run(
            query, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        found["gpu"] = None
    return found


if __name__ == "__main__":
    main()
