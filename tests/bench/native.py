"""Compare the C++17 runner with CTranslate2: tokens per second of processor time, one thread.

python tests/bench/native.py valyrian_jax/bundle/pretrained
"""

import itertools
import json
import resource
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import ctranslate2
from gguf import GGMLQuantizationType as StorageType

from bridge.gguf.writer import write_gguf
from tests.support.native import build_native
from valyrian_jax.bundle.bundle import load_bundle

PROMPT, NEW_TOKENS, TEXTS, ROUNDS = "valar", 60, 640, 5
TYPES = {"f32": StorageType.F32, "f16": StorageType.F16, "q8_0": StorageType.Q8_0}
COMPUTE_TYPES = {"float32": "float32", "int8": "int8"}
Task = Callable[[], None]


def make_native_tasks(directory: Path, program: Path, bundle: Any) -> dict[str, Task]:
    """Return a task for each type, instruction set and number of texts together."""

    def make_task(path: Path, instructions: str, together: int) -> Task:
        options = f"--ids --max-new-tokens {NEW_TOKENS} --temperature 0.8 --top-p 0.95 --prompts -"
        options += f" --num-samples {together} --instructions {instructions}"
        lines = f"{PROMPT}\n" * (TEXTS // together)
        command = [program, path, *options.split()]
        return lambda: subprocess.run(
            command, input=lines.encode(), stdout=subprocess.DEVNULL, check=True
        )

    tasks = {}
    for name, storage in TYPES.items():
        path = directory / f"{name}.gguf"
        write_gguf(path, bundle, storage, {})
        for instructions, together in itertools.product(("avx512", "avx2"), (1, 32)):
            task = make_task(path, instructions, together)
            tasks[f"native {name} {instructions}, {together} together"] = task
    return tasks


def make_ctranslate2_tasks(directory: Path, bundle_path: Path, bundle: Any) -> dict[str, Task]:
    """Return a task for each type and number of texts together."""
    vocabulary = json.loads((bundle_path / "tokenizer.json").read_text())["model"]["vocab"]
    spellings = list(vocabulary)
    prompt = [spellings[i] for i in bundle.tokenizer.encode(PROMPT)]

    def make_task(generator: Any, together: int) -> Task:
        def task() -> None:
            for _ in range(TEXTS // together):
                generator.generate_batch(
                    [prompt] * together,
                    max_length=NEW_TOKENS,
                    min_length=NEW_TOKENS,
                    sampling_topk=0,
                    sampling_topp=0.95,
                    sampling_temperature=0.8,
                    include_prompt_in_result=False,
                    end_token=[],
                )

        return task

    tasks = {}
    for name, compute_type in COMPUTE_TYPES.items():
        path = directory / name
        converter = ctranslate2.converters.TransformersConverter(str(bundle_path))
        converter.convert(str(path), quantization=compute_type)
        generator = ctranslate2.Generator(str(path), compute_type=compute_type, intra_threads=1)
        for together in (1, 32):
            tasks[f"CTranslate2 {name}, {together} together"] = make_task(generator, together)
    return tasks


def processor_seconds() -> float:
    """Return the processor time of this process and of those that it has waited for."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@click.command()
@click.argument("bundle_path", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(bundle_path: Path) -> None:
    """Measure all in turns, and print the best round of each."""
    bundle = load_bundle(bundle_path)
    program = build_native() / "valyrian-run"
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        tasks = make_native_tasks(directory, program, bundle)
        tasks |= make_ctranslate2_tasks(directory, bundle_path, bundle)
        best = dict.fromkeys(tasks, float("inf"))
        for _, (title, task) in itertools.product(range(ROUNDS), tasks.items()):
            start = processor_seconds()
            task()
            best[title] = min(best[title], processor_seconds() - start)
    for title, seconds in best.items():
        print(f"{title}: {TEXTS * NEW_TOKENS / seconds:,.0f} tokens/s")


if __name__ == "__main__":
    main()
