"""Divide the time of a trace on a GPU by the purpose of the kernels."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

MEMORY = re.compile(r"memcpy|memset", re.IGNORECASE)
ATTENTION = re.compile(r"cudnn|fmha|flash")
PRODUCT = re.compile(r"gemm|nvjet|cutlass|cublas|splitK")
INSTRUCTION = re.compile(r"\s*(?:ROOT )?%([\w.\-]+) = ")
OPERATION = re.compile(r'op_name="([^"]*)"')


def summarize_trace(trace: Path, program: str, out: Path) -> dict[str, Any]:
    """Return the shares of the purposes in the time from the first to the last kernel.

    Args:
        trace: Trace of the profiler.
        program: Text of the compiled program.
        out: File to write the milliseconds of every kernel to.
    """
    from jax.profiler import ProfileData

    lines = {
        re.sub(r"\W", "_", match[1]): line
        for line in program.splitlines()
        if (match := INSTRUCTION.match(line))
    }
    purpose_ns: Counter[str] = Counter()
    kernel_ns: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    start, end = np.inf, 0.0
    for plane in ProfileData.from_file(str(trace)).planes:
        if not plane.name.startswith("/device:GPU"):
            continue
        for line in plane.lines:
            if not line.name.startswith("Stream"):
                continue
            for event in line.events:
                purpose = classify_kernel(event.name, lines.get(event.name, ""))
                purpose_ns[purpose] += event.duration_ns
                kernel_ns[event.name[:90]] += event.duration_ns
                counts[purpose] += 1
                start = min(start, event.start_ns)
                end = max(end, event.start_ns + event.duration_ns)
    window = max(end - start, 1.0)
    kernel_ms = {kernel: round(ns / 1e6, 3) for kernel, ns in kernel_ns.most_common()}
    out.write_text(json.dumps(kernel_ms, indent=0))
    shares = {purpose: ns / window for purpose, ns in purpose_ns.most_common()}
    return {
        "window_ms": window / 1e6,
        "shares": shares | {"gaps": 1 - purpose_ns.total() / window},
        "kernels": dict(counts),
        "longest": dict(list(kernel_ms.items())[:8]),
    }


def classify_kernel(kernel: str, line: str) -> str:
    """Return the purpose of a kernel, from its name and its line in the compiled program."""
    match = OPERATION.search(line)
    operation = match[1] if match else ""
    if MEMORY.search(kernel):
        return "copies"
    if ATTENTION.search(kernel):
        return "attention"
    if PRODUCT.search(kernel) or "gemm" in line[:200]:
        return "products"
    shapes = line.split("metadata")[0]
    if "jvp()/reduce" in operation or ("50304]" in shapes and "50304,768]" not in shapes):
        return "the head's loss"
    return "blocks" if "GPT" in operation else "optimizer and rest"
