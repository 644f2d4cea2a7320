"""What all benchmarks share: taking turns, processes to work in, what the machine can do, and the table."""

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
    "jax",
    "flax",
    "optax",
    "torch",
    "transformers",
    "tokenizers",
    "tiktoken",
    "rustbpe",
    "numba",
    "numpy",
)


class Row(NamedTuple):
    """One thing measured in turns; the first name is ours."""

    what: str
    unit: str  # of all numbers; "s" and "ms ..." are better when lower
    found: dict[str, list[float]]
    limit: float | None = None  # what the machine could do at best
    why: str = ""  # how the limit is reckoned

    @property
    def lower_is_better(self) -> bool:
        return self.unit.split()[0] in {"s", "ms", "GB"}

    @property
    def ratios(self) -> dict[str, float]:
        """How many times as good ours is as each peer: the median over the turns."""
        ours, *peers = self.found
        out = {}
        for peer in peers:
            pairs = zip(self.found[ours], self.found[peer], strict=True)
            out[peer] = statistics.median(
                b / a if self.lower_is_better else a / b for a, b in pairs
            )
        return out


def in_turns(work: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call all, again and again: what the machine does meanwhile hits each alike."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, once in work.items():
            found[name].append(once())
    return found


def seconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


@contextmanager
def processes(count: int) -> Iterator[list[Callable[..., Any]]]:
    """So many processes; each is a function that calls another there, which keeps what it has built and compiled."""
    pools = [ProcessPoolExecutor(1, mp_context=get_context("spawn")) for _ in range(count)]
    try:
        yield [lambda work, *given, pool=pool: pool.submit(work, *given).result() for pool in pools]
    finally:
        for pool in pools:
            pool.shutdown()


def machine() -> dict[str, Any]:
    """Where and with what this was measured."""
    names = [
        line
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": names[0].partition(": ")[2] if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
    }


def peak_flops(threads: int) -> float:
    """Float32 operations a second in the best of several large matrix products."""
    import torch

    torch.set_num_threads(threads)
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return 2 * 2048**3 / min(seconds(lambda: a @ b) for _ in range(20))


def peak_bytes() -> float:
    """Bytes a second that one thread reads at best."""
    data = np.ones(1 << 25)
    return data.nbytes / min(seconds(data.sum) for _ in range(10))


def show(rows: list[Row], path: Path | None) -> None:
    """Print the rows, and write them as JSON if there is a path."""
    table = Table(title=" · ".join(f"{name} {value}" for name, value in machine().items()))
    for heading in ("what", "who", "median", "from", "to", "unit", "ours is", "share of the limit"):
        table.add_column(heading, justify="left" if heading in {"what", "who", "unit"} else "right")
    for row in rows:
        for i, (name, values) in enumerate(row.found.items()):
            middle = statistics.median(values)
            share = (
                None
                if row.limit is None
                else row.limit / middle
                if row.lower_is_better
                else middle / row.limit
            )
            ratio = f"{row.ratios[name]:.2f}x" if i else ""
            numbers = [f"{value:,.4g}" for value in (middle, min(values), max(values))]
            shown = "" if share is None else f"{share:.1%}"
            table.add_row(
                "" if i else row.what,
                name,
                *numbers,
                row.unit,
                ratio,
                shown,
                end_section=i == len(row.found) - 1,
            )
    Console(width=150).print(table)
    for row in rows:
        if row.limit is not None:
            print(f"limit of {row.what}: {row.limit:,.4g} {row.unit}: {row.why}")
    if path:
        content = {
            "machine": machine(),
            "rows": [{**row._asdict(), "ratios": row.ratios} for row in rows],
        }
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
