"""The C++17 runner refuses malicious files in one line, quickly and in little memory."""

import math
import random
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as StorageType

from bridge.gguf.writer import write_gguf
from tests.support.gguf_files import ALIGNMENT, pack, unpack
from tests.support.mutating import damage_bytes
from tests.support.native import USES_SANITIZERS, build_native
from valyrian_jax.bundle.bundle import Bundle

MEMORY = 1 << 30
INPUTS = 100


@pytest.fixture(scope="module")
def runner() -> Path:
    return build_native() / "valyrian-run"


@pytest.fixture(scope="module")
def content(small: Bundle, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("file") / "model.gguf"
    write_gguf(path, small, StorageType.Q8_0, {"activation": "gelu_new"})
    return path.read_bytes()


def run(runner: Path, path: Path) -> subprocess.CompletedProcess[str]:
    memory = "unlimited" if USES_SANITIZERS else MEMORY >> 10  # Sanitizers reserve terabytes.
    # A shell sets the limit: `preexec_fn` would copy the page tables of this process each time.
    command = ["sh", "-c", f'ulimit -v {memory}; exec "$@"', "sh", runner, path]
    command += ["--prompt", "the dragon", "--max-new-tokens", "40"]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=20,
        check=False,
    )


def assert_refused(done: subprocess.CompletedProcess[str], label: Any) -> None:
    assert done.returncode == 2, (label, done.returncode, done.stderr[-2000:])
    assert done.stderr.startswith("error: "), (label, done.stderr[-2000:])
    assert done.stderr.count("\n") == 1, (label, done.stderr[-2000:])
    assert len(done.stderr) < 500


def test_damaged_files_are_read_or_refused(runner: Path, content: bytes, tmp_path: Path) -> None:
    header = content.index(b"output_norm.bias") + 200  # most damage is done to the header

    def attack(number: int) -> bool:
        draw = random.Random(number)
        size = draw.choice((header, header, header, len(content), 200))
        path = tmp_path / f"{number}.gguf"
        path.write_bytes(damage_bytes(draw, content[:size]) + content[size:])
        done = run(runner, path)
        path.unlink()
        if done.returncode:
            assert_refused(done, number)
        return done.returncode == 0

    with ThreadPoolExecutor(2) as pool:
        accepted = sum(pool.map(attack, range(INPUTS)))
    assert 0 < accepted < INPUTS


def replace_text(content: bytes, old: str, new: str) -> bytes:
    """Replace the first string of this value, without its size."""
    size = struct.pack("<Q", len(old))
    return content.replace(size + old.encode(), size + new.encode(), 1)


def edit_value(content: bytes, key: str, value: bytes) -> bytes:
    """Replace the bytes after a key and its type."""
    at = content.index(struct.pack("<Q", len(key)) + key.encode()) + 8 + len(key) + 4
    return content[:at] + value + content[at + len(value) :]


def edit_tensor(content: bytes, name: str, value: bytes, offset: int = 0) -> bytes:
    """Replace the bytes after a tensor's name: dimensions, shape, type and offset."""
    at = content.index(struct.pack("<Q", len(name)) + name.encode()) + 8 + len(name) + offset
    return content[:at] + value + content[at + len(value) :]


CASES: dict[str, Any] = {
    "empty": lambda c: b"",
    "cut in the header": lambda c: c[:2000],
    "cut in the data": lambda c: c[:-40],
    "another version": lambda c: c[:4] + b"\1\0\0\0" + c[8:],
    "big-endian": lambda c: c[:4] + b"\0\0\0\3" + c[8:],
    "2^60 tensors": lambda c: c[:8] + struct.pack("<Q", 1 << 60) + c[16:],
    "2^60 values": lambda c: c[:16] + struct.pack("<Q", 1 << 60) + c[24:],
    "a key of 2^63 bytes": lambda c: c[:24] + struct.pack("<Q", 1 << 63) + c[32:],
    "no heads": lambda c: edit_value(c, "gpt2.attention.head_count", struct.pack("<I", 0)),
    "2^32 - 1 heads": lambda c: edit_value(c, "gpt2.attention.head_count", b"\xff" * 4),
    "5 heads": lambda c: edit_value(c, "gpt2.attention.head_count", struct.pack("<I", 5)),
    "2^32 - 1 layers": lambda c: edit_value(c, "gpt2.block_count", b"\xff" * 4),
    "a layer too many": lambda c: edit_value(c, "gpt2.block_count", struct.pack("<I", 3)),
    "2^32 - 1 positions": lambda c: edit_value(c, "gpt2.context_length", b"\xff" * 4),
    "epsilon NaN": lambda c: edit_value(
        c, "gpt2.attention.layer_norm_epsilon", struct.pack("<f", np.nan)
    ),
    "an end of the document outside": lambda c: edit_value(
        c, "tokenizer.ggml.eos_token_id", struct.pack("<I", 300)
    ),
    "2^61 tokens": lambda c: edit_value(c, "tokenizer.ggml.tokens", struct.pack("<IQ", 8, 1 << 61)),
    "lists of lists": lambda c: edit_value(c, "tokenizer.ggml.tokens", struct.pack("<I", 9)),
    "tokens that are floats": lambda c: edit_value(
        c, "tokenizer.ggml.token_type", struct.pack("<I", 6)
    ),
    "100 dimensions": lambda c: edit_tensor(c, "output.weight", struct.pack("<I", 100)),
    "no dimension": lambda c: edit_tensor(c, "output.weight", struct.pack("<I", 0)),
    "2^62 rows": lambda c: edit_tensor(c, "output.weight", struct.pack("<Q", 1 << 62), 12),
    "0 columns": lambda c: edit_tensor(c, "output.weight", struct.pack("<Q", 0), 4),
    "another type": lambda c: edit_tensor(c, "output.weight", struct.pack("<I", 30), 20),
    "2^64 - 32 as offset": lambda c: edit_tensor(
        c, "output.weight", struct.pack("<Q", 2**64 - 32), 24
    ),
    "a name twice": lambda c: replace_text(c, "blk.0.ffn_up.bias", "blk.1.ffn_up.bias"),
    "a line feed in a name": lambda c: edit_tensor(
        replace_text(c, "output_norm.bias", "output_norm\nbias"),
        "output_norm\nbias",
        struct.pack("<I", 30),
        12,
    ),
    "another architecture": lambda c: replace_text(c, "gpt2", "gptj"),
    "another activation": lambda c: replace_text(c, "gelu_new", "gelu_old"),
}


@pytest.mark.parametrize("name", CASES)
def test_malicious_files_are_refused(
    runner: Path, content: bytes, tmp_path: Path, name: str
) -> None:
    damaged = CASES[name](content)
    assert damaged != content
    path = tmp_path / "model.gguf"
    path.write_bytes(damaged)
    assert_refused(run(runner, path), name)


@pytest.mark.skipif(USES_SANITIZERS, reason="needs a limit of the memory")
def test_sizes_whose_product_is_too_large_for_memory_are_refused(
    runner: Path, content: bytes, tmp_path: Path
) -> None:
    """The weights fit the file, but the cache has layers x positions."""
    path, positions, layers = tmp_path / "model.gguf", 1 << 19, 40
    parts = unpack(content)
    parts.set("gpt2.context_length", positions)
    parts.set("gpt2.embedding_length", 1)
    parts.set("gpt2.feed_forward_length", 4)
    parts.set("gpt2.block_count", layers)
    parts.set("gpt2.attention.head_count", 1)
    shapes = {"token_embd.weight": (300, 1), "position_embd.weight": (positions, 1)}
    shapes |= {"output_norm.weight": (1,), "output_norm.bias": (1,)}
    sizes = {"attn_qkv": (3, 1), "attn_output": (1, 1), "ffn_up": (4, 1), "ffn_down": (1, 4)}
    for i in range(layers):
        shapes |= {f"blk.{i}.{name}.weight": shape for name, shape in sizes.items()}
        shapes |= {f"blk.{i}.{name}.bias": shape[:1] for name, shape in sizes.items()}
        for norm in ("attn_norm", "ffn_norm"):
            shapes |= {f"blk.{i}.{norm}.{part}": (1,) for part in ("weight", "bias")}
    parts.tensors, end = [], 0
    for name, shape in shapes.items():
        parts.tensors.append((name, shape[::-1], StorageType.F32, end))
        end += -(-4 * math.prod(shape) // ALIGNMENT) * ALIGNMENT
    parts.data = bytes(end)
    path.write_bytes(pack(parts))
    assert_refused(run(runner, path), "cache")
