"""Check the C++17 runner with sanitizers, damaged files and random texts.

python tests/bench/native_checks.py [tests|damage|fuzz|share|tokenizer|all] [--count 1000000]

`tests` runs its tests with the address and undefined-behaviour sanitizers, `damage` loads damaged
files with them, `fuzz` those that libFuzzer makes (it needs clang), `share` lets threads share a
model under the thread sanitizer, and `tokenizer` compares the ids of random strings with those of
Python.
"""

import os
import random
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from gguf import GGMLQuantizationType as StorageType

sys.path.append(str(Path(__file__).parents[2]))

from bridge.cpp.native.example import Model
from bridge.gguf.export import write
from bridge.gguf.writer import write_gguf
from tests.support.bridge_targets import make_gguf_files
from tests.support.native import ROOT, SANITIZERS, SOURCES, build_native
from tests.support.targets import MODEL, make_tokenizer
from valyrian_jax.bundle.bundle import Bundle, load_bundle
from valyrian_jax.bundle.names import parameter_shapes
from valyrian_jax.bundle.shipped_model import SHIPPED_MODEL

ALPHABET = "aā ſ'sSltvred\n\t\r\x85\u3000\u00a0٣1²🐉\u0301\u10fffe'’  ñjÿ"
TESTS = ("tests/bridge/test_native.py", "tests/bridge/test_native_hostile.py")


def run_tests() -> None:
    """Run the tests against a build with the address and undefined-behaviour sanitizers."""
    runtimes = [
        subprocess.run(
            ["g++", f"-print-file-name=lib{name}.so"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("asan", "ubsan")
    ]
    # Python loads the library, so it needs the sanitizers first; it leaks at its end.
    environment = {
        **os.environ,
        "VALYRIAN_SANITIZERS": "1",
        "LD_PRELOAD": " ".join(runtimes),
        "ASAN_OPTIONS": "detect_leaks=0",
    }
    build_native(sanitizers=True)
    command = [sys.executable, "-m", "pytest", "-q", "-n0", *TESTS]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


def build(compiler: str, source: str, sanitizers: str, directory: Path) -> Path:
    """Build a program of this directory with some sanitizers."""
    program = directory / "program"
    command = [compiler, "-std=c++17", "-O1", "-g", "-pthread", *sanitizers.split(), "-I", SOURCES]
    subprocess.run([*command, Path(__file__).with_name(source), "-o", program], check=True)
    return program


def read_damaged(directory: Path, count: int, seed: int) -> None:
    """Load damaged files."""
    path = directory / "model.gguf"
    path.write_bytes(make_gguf_files()["model.gguf"])
    program = build("g++", "native_stress.cpp", SANITIZERS, directory)
    subprocess.run([program, "damage", path, str(count), str(seed)], check=True)


def fuzz_reader(directory: Path, count: int, seed: int) -> None:
    """Load the files that libFuzzer makes of small ones, one for each type of weights.

    It writes the file that ends the program to the current directory.
    """
    corpus = directory / "corpus"
    corpus.mkdir()
    for storage in (StorageType.F32, StorageType.F16, StorageType.Q8_0):
        config = replace(MODEL, n_embd=32 if storage == StorageType.Q8_0 else 4)
        draw = np.random.default_rng(seed)
        shapes = parameter_shapes(config)
        tensors = {name: draw.normal(size=shape).astype("f4") for name, shape in shapes.items()}
        bundle = Bundle(config, tensors, make_tokenizer(), {})
        write_gguf(corpus / storage.name, bundle, storage, {"activation": "gelu_new"})
    sanitizers = SANITIZERS.replace("address", "fuzzer,address")
    program = build("clang++", "native_fuzz.cpp", sanitizers, directory)
    options = [f"-runs={count}", f"-seed={seed}", "-max_len=65536", "-rss_limit_mb=4096"]
    subprocess.run([program, corpus, *options, "-print_final_stats=1"], check=True)


def share_model(directory: Path) -> None:
    """Let eight threads share the shipped model."""
    path = directory / "model.gguf"
    write(SHIPPED_MODEL, path)
    program = build("g++", "native_stress.cpp", "-fsanitize=thread", directory)
    subprocess.run([program, "share", path, "8"], check=True)


def compare_ids(directory: Path, count: int, seed: int) -> None:
    """Compare the ids and the text of random strings and bytes."""
    path = directory / "model.gguf"
    write(SHIPPED_MODEL, path)
    model = Model(build_native() / "libvalyrian.so", path)
    tokenizer = load_bundle(SHIPPED_MODEL).tokenizer
    draw = random.Random(seed)
    for number in range(count):
        size = draw.randrange(40)
        if number % 4 == 0:
            text = draw.randbytes(size)
        elif number % 4 == 1:
            text = "".join(map(chr, draw.choices(range(0xD800), k=size))).encode()
        else:
            text = "".join(draw.choices(ALPHABET, k=size)).encode()
        ids = model.encode(text)
        assert ids == tokenizer.encode_bytes(text), (number, text)
        assert model.decode(ids) == text.decode("utf-8", "replace"), (number, text)
    click.echo(f"{count:,} random strings: the ids and the texts of Python")


@click.command()
@click.argument(
    "what",
    type=click.Choice(["tests", "damage", "fuzz", "share", "tokenizer", "all"]),
    default="all",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=1_000_000,
    show_default=True,
    help="Damaged or fuzzed files, and random strings.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the inputs.")
def main(what: str, count: int, seed: int) -> None:
    """Check one thing, or all."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if what in ("tests", "all"):
            run_tests()
        if what in ("damage", "all"):
            read_damaged(directory, count, seed)
        if what in ("fuzz", "all"):
            fuzz_reader(directory, count, seed)
        if what in ("share", "all"):
            share_model(directory)
        if what in ("tokenizer", "all"):
            compare_ids(directory, count, seed)


if __name__ == "__main__":
    main()
