"""Compare values and measure speed on a GPU, in at most eight minutes.

python tests/bench/gpu.py --out DIR [--sections a,b]

Every section is a process with a time limit. It appends JSON lines to DIR/results.jsonl as it goes,
so an early stop loses nothing. Sections that compare values run side by side; sections that measure
time run alone. `--tiny` rehearses all of them on a CPU with small shapes, and with the total time
limit only. On a machine without some packages, use tests/bench/gpu.sh.
"""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

# Section: its module and its time limit in seconds. The sections of a group run side by side.
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
PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "torch", "transformers"),
    *("nvidia-cudnn-cu13", "nvidia-cublas"),
)


def record(section: str, **values: Any) -> None:
    """Append a result to the results file, and print it."""
    line = json.dumps({"section": section, "at": round(time.time(), 1), **values})
    with Path(os.environ["GPU_BENCH_OUT"], "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    print(line[:2000], flush=True)


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Directory for the results."
)
@click.option("--sections", default="", help="Sections to run, separated by commas [all].")
@click.option("--seconds", type=float, default=480.0, show_default=True, help="Total time limit.")
@click.option(
    "--bundle", type=click.Path(path_type=Path), help="Trained bundle for texts and generate."
)
@click.option(
    "--nanogpt", type=click.Path(path_type=Path), help="Checkout of nanoGPT to compare with."
)
@click.option("--tiny", is_flag=True, help="Rehearse on the CPU with small shapes.")
def main(
    out: Path, sections: str, seconds: float, bundle: Path | None, nanogpt: Path | None, tiny: bool
) -> None:
    """Run the sections, the most important ones first."""
    all_sections = {name for group in GROUPS for name in group}
    selected = set(sections.split(",")) if sections else all_sections
    if unknown := selected - all_sections:
        raise click.BadParameter(
            f"{', '.join(sorted(unknown))}: expected some of {', '.join(sorted(all_sections))}"
        )
    out.mkdir(parents=True, exist_ok=True)
    paths = {
        "GPU_BENCH_OUT": out.resolve(),
        "GPU_BENCH_BUNDLE": bundle,
        "GPU_BENCH_NANOGPT": nanogpt,
    }
    os.environ |= {name: str(path) for name, path in paths.items() if path}
    os.environ["JAX_PLATFORMS"] = "cpu" if tiny else "cuda,cpu"
    if tiny:
        os.environ["GPU_BENCH_TINY"] = "1"
    deadline = time.monotonic() + seconds
    record("machine", **describe_machine())
    for group in GROUPS:
        running = {
            name: start_section(name, module, math.inf if tiny else limit, deadline, out)
            for name, (module, limit) in group.items()
            if name in selected
        }
        for name, (process, section_deadline) in running.items():
            wait_for_section(name, process, section_deadline)


def start_section(
    name: str, module: str, seconds: float, deadline: float, out: Path
) -> tuple[subprocess.Popen[bytes], float]:
    """Start a section, and return its process and its deadline."""
    code = f"import {module}; {module}.{name}()"
    python_path = os.pathsep.join([*sys.path[:2], os.environ.get("PYTHONPATH", "")])
    with (out / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": python_path},
            stdout=log,
            stderr=log,
            cwd=ROOT,
            start_new_session=True,
        )
    return process, min(deadline, time.monotonic() + seconds)


def wait_for_section(name: str, process: subprocess.Popen[bytes], deadline: float) -> None:
    """Wait for a section until its deadline, then kill it and its children."""
    start = time.monotonic()
    try:
        status: int | str = process.wait(max(0.0, deadline - start))
    except subprocess.TimeoutExpired:
        status = "stopped: out of time"
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    record("end", of=name, status=status, waited_s=round(time.monotonic() - start, 1))


def describe_machine() -> dict[str, Any]:
    """Return the card, its driver and the versions of the software."""
    machine: dict[str, Any] = {"python": sys.version.split()[0], "cores": os.cpu_count()}
    for package in PACKAGES:
        try:
            machine[package] = version(package)
        except PackageNotFoundError:
            machine[package] = None
    query = "--query-gpu=name,driver_version,clocks.max.sm,power.limit"
    try:
        machine["gpu"] = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        machine["gpu"] = None
    return machine


if __name__ == "__main__":
    main()
