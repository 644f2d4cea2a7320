"""Measure the speed and memory of encoding text as shards, and of reading batches from them."""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import texts
from measuring import ROOT

from valyrian_jax.data import documents, shard_dataset
from valyrian_jax.data.shards.split import split_shards
from valyrian_jax.tokenizer import train_bpe

LENGTH, ROWS = 1024, 32

# Runs the command, then prints the peak memory of its process and of its largest worker.
COMMAND = """
import resource, sys
from valyrian_jax.cli.entry_point import run_command
from valyrian_jax.cli.main import main
if __name__ == "__main__":
    try:
        run_command(main)
    finally:
        lines = open("/proc/self/status").read().splitlines()
        own = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
        print(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--megabytes", type=int, nargs="+", default=[50, 200, 800], help="sizes of the text"
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--vocab-size", type=int, default=32768)
    parser.add_argument("--shard-tokens", type=int, default=1 << 22)
    options = parser.parse_args()
    tokenizer = texts.CACHE / "sharding.json"
    train_bpe(texts.load_docstrings(), options.vocab_size).save(tokenizer)
    out = texts.CACHE / "shards"
    for megabytes in options.megabytes:
        text = texts.make_large_file(megabytes * 1_000_000)
        for workers in options.workers:
            shutil.rmtree(out, ignore_errors=True)
            arguments = ["--shard-tokens", options.shard_tokens, "--workers", workers]
            print(json.dumps(measure_encoding(tokenizer, text, out, arguments)), flush=True)
    print(json.dumps(measure_splitting(text)))
    print(json.dumps(measure_batches(out)))


def measure_encoding(tokenizer: Path, text: Path, out: Path, options: list[Any]) -> dict[str, Any]:
    """Encode a text as shards."""
    start = time.perf_counter()
    arguments = map(str, ["tokenizer", "encode", tokenizer, text, "--out", out, *options])
    output = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout
    seconds = time.perf_counter() - start
    command_kib, worker_kib = map(int, output.split()[-2:])
    index = json.loads((out / "index.json").read_text())
    return {
        "text": f"{text.stat().st_size / 1e6:.0f} MB",
        "options": options,
        "seconds": round(seconds, 1),
        "tokens/s": round(index["tokens"] / seconds),
        "MB/s": round(index["size"] / seconds / 1e6, 1),
        "shards": len(index["shards"]),
        "command, MB at most": command_kib // 1024,
        "largest worker, MB at most": worker_kib // 1024,
    }


def measure_splitting(text: Path) -> dict[str, float]:
    """Split a text into documents; one process does that, whatever the number of workers."""
    start = time.perf_counter()
    count = sum(1 for _ in documents.read_documents(text))
    seconds = time.perf_counter() - start
    return {"documents": count, "cutting, MB/s": round(text.stat().st_size / 1e6 / seconds)}


def measure_batches(out: Path, steps: int = 300) -> dict[str, float]:
    """Read random windows, which are in the page cache."""
    start = time.perf_counter()
    split = split_shards(out, 1e-4)
    opened = time.perf_counter()
    for step in range(steps):
        shard_dataset.read_batch(split, 0, step, ROWS, LENGTH)
    seconds = (time.perf_counter() - opened) / steps
    return {
        "opening, ms": round((opened - start) * 1e3, 1),
        f"a batch of {ROWS} windows of {LENGTH}, ms": round(seconds * 1e3, 2),
        "tokens/s": round(ROWS * LENGTH / seconds),
    }


if __name__ == "__main__":
    main()
