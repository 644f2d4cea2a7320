"""Text to shards and shards to batches: how fast, and how much memory, over the size of the text."""

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
from valyrian_jax.data.shard_split import split_shards
from valyrian_jax.tokenizer import train_bpe

LENGTH, ROWS = 1024, 32

# The command in a process of its own, then what it and the largest of its workers held at most.
COMMAND = """
import resource, sys
from valyrian_jax import __main__ as main, command
if __name__ == "__main__":
    try:
        command.run(main.main)
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
    vocabulary = texts.CACHE / "sharding.json"
    train_bpe(texts.prose(), options.vocab_size).save(vocabulary)
    out = texts.CACHE / "shards"
    for megabytes in options.megabytes:
        text = texts.bulk(megabytes * 1_000_000)
        for workers in options.workers:
            shutil.rmtree(out, ignore_errors=True)
            arguments = ["--shard-tokens", options.shard_tokens, "--workers", workers]
            print(json.dumps(encoded(vocabulary, text, out, arguments)), flush=True)
    print(json.dumps(cut(text)))
    print(json.dumps(batches(out)))


def encoded(vocabulary: Path, text: Path, out: Path, options: list[Any]) -> dict[str, Any]:
    begin = time.perf_counter()
    arguments = map(str, ["tokenizer", "encode", vocabulary, text, "--out", out, *options])
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - begin
    own, worker = map(int, done.stdout.split()[-2:])
    index = json.loads((out / "index.json").read_text())
    return {
        "text": f"{text.stat().st_size / 1e6:.0f} MB",
        "options": options,
        "seconds": round(seconds, 1),
        "tokens/s": round(index["tokens"] / seconds),
        "MB/s": round(index["size"] / seconds / 1e6, 1),
        "shards": len(index["shards"]),
        "command, MB at most": own // 1024,
        "largest worker, MB at most": worker // 1024,
    }


def cut(text: Path) -> dict[str, float]:
    """What the process that reads does alone: cutting the text, which no number of workers makes faster."""
    begin = time.perf_counter()
    count = sum(1 for _ in documents.read_raw(text, documents.LONGEST))
    return {
        "documents": count,
        "cutting, MB/s": round(text.stat().st_size / 1e6 / (time.perf_counter() - begin)),
    }


def batches(out: Path, steps: int = 300) -> dict[str, float]:
    """Random windows; what is read stands in the page cache of the system."""
    begin = time.perf_counter()
    split = split_shards(out, 1e-4)
    opened = time.perf_counter()
    for step in range(steps):
        shard_dataset.read_batch(split, 0, step, ROWS, LENGTH)
    seconds = (time.perf_counter() - opened) / steps
    return {
        "opening, ms": round((opened - begin) * 1e3, 1),
        f"a batch of {ROWS} windows of {LENGTH}, ms": round(seconds * 1e3, 2),
        "tokens/s": round(ROWS * LENGTH / seconds),
    }


if __name__ == "__main__":
    main()
