"""Time work in turns, measure the limits of the machine, and print the results as a table."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
PACKAGES = (
    *("jax", "flax", "optax", "torch", "transformers"),
    *("tokenizers", "tiktoken", "rustbpe", "numba", "numpy"),
    *("gigatoken", "fastokens", "rs_bpe"),
)


class Row(NamedTuple):
    """The measurements of one task.

    Attributes:
        title: What was measured.
        unit: Unit of all numbers.
        values: Measurements by competitor; ours is the first.
        limit: Best value that the machine allows.
        limit_basis: How the limit is computed.
    """

    title: str
    unit: str
    values: dict[str, list[float]]
    limit: float | None = None
    limit_basis: str = ""

    @property
    def lower_is_better(self) -> bool:
        return self.unit.split()[0] in {"s", "ms", "GB"}

    @property
    def ratios(self) -> dict[str, float]:
        """How much better ours is than each competitor: the median over the rounds."""
        ours, *competitors = self.values
        ratios = {}
        for name in competitors:
            pairs = zip(self.values[ours], self.values[name], strict=True)
            ratios[name] = statistics.median(
                b / a if self.lower_is_better else a / b for a, b in pairs
            )
        return ratios

    def limit_share(self, value: float) -> float | None:
        """Return a value as a fraction of the limit."""
        if self.limit is None:
            return None
        return self.limit / value if self.lower_is_better else value / self.limit


def measure_in_turns(
    tasks: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, list[float]]:
    """Call all tasks in every round, so that other load on the machine affects all of them."""
    values: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            values[name].append(task())
    return values


def time_call(function: Callable[[], Any]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@contextmanager
def start_workers(count: int) -> Iterator[list[Callable[..., Any]]]:
    """Start processes; yield, for each, a function that calls a function there.

    A process keeps what it has built and compiled.
    """
    pools = [ProcessPoolExecutor(1, mp_context=get_context("spawn")) for _ in range(count)]
    try:
        yield [lambda function, *a, pool=pool: pool.submit(function, *a).result() for pool in pools]
    finally:
        for pool in pools:
            pool.shutdown()


def describe_machine() -> dict[str, Any]:
    """Return the date, the processor and the versions of the software."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line for line in lines if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": names[0].partition(": ")[2] if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
    }


def measure_flops(threads: int) -> float:
    """Return the float32 FLOP/s of the fastest of several large matrix products."""
    import torch

    torch.set_num_threads(threads)
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return 2 * 2048**3 / min(time_call(lambda: a @ b) for _ in range(20))


def measure_read_speed() -> float:
    """Return the bytes per second that one thread reads from memory."""
    data = np.ones(1 << 25)
    return data.nbytes / min(time_call(data.sum) for _ in range(10))


def print_rows(rows: list[Row]) -> None:
    """Print a table, and the basis of every limit."""
    machine = describe_machine()
    table = Table(title=" · ".join(f"{name} {value}" for name, value in machine.items()))
    for heading in ("what", "who", "median", "from", "to", "unit", "ours is", "share of the limit"):
        table.add_column(heading, justify="left" if heading in {"what", "who", "unit"} else "right")
    for row in rows:
        for i, (name, values) in enumerate(row.values.items()):
            median = statistics.median(values)
            share = row.limit_share(median)
            table.add_row(
                "" if i else row.title,
                name,
                *(f"{value:,.4g}" for value in (median, min(values), max(values))),
                row.unit,
                f"{row.ratios[name]:.2f}x" if i else "",
                "" if share is None else f"{share:.1%}",
                end_section=i == len(row.values) - 1,
            )
    Console(width=150).print(table)
    for row in rows:
        if row.limit is not None:
            print(f"limit of {row.title}: {row.limit:,.4g} {row.unit}: {row.limit_basis}")


def write_rows(rows: list[Row], path: Path) -> None:
    """Write the machine and the rows as JSON."""
    records = [{**row._asdict(), "ratios": row.ratios} for row in rows]
    content = {"machine": describe_machine(), "rows": records}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
