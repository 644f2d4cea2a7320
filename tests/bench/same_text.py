r"""Count how often the runtimes generate different texts from the same seeds.

python tests/bench/same_text.py BUNDLE MODEL.pt PATH/TO/valyrian-generate MODEL.gguf \
    PATH/TO/valyrian-run [--rows 13] [--only PyTorch --only Native]
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import torch

from bridge import torchscript
from bridge.generator import Generator
from bridge.parity_runtimes import SAMPLER_SETTINGS
from bridge.streaming import stream
from bridge.torchscript import EXAMPLE_SETTINGS
from valyrian_jax.bundle.bundle import Bundle, load_bundle
from valyrian_jax.bundle.text_generation import encode_prompt, seed_range
from valyrian_jax.config import SampleConfig
from valyrian_jax.generation.generate import make_generator

PROMPTS, NEW_TOKENS = 100, 200
Runtime = Callable[[SampleConfig], np.ndarray]  # returns the new ids (PROMPTS x rows, T)


def make_prompts(bundle: Bundle, generator: Generator) -> list[str]:
    """Return prompts of 1 to 100 generated tokens."""
    start = torch.full((PROMPTS, 1), bundle.tokenizer.end_of_text)
    texts = generator.generate(start, PROMPTS, 1.0, 0, 1.0, 99)[:, 1:].tolist()
    return [" ".join(bundle.tokenizer.decode(ids[: i + 1]).split()) for i, ids in enumerate(texts)]


def make_runtimes(
    bundle_path: Path, file: Path, program: Path, gguf: Path, runner: Path, rows: int
) -> dict[str, Runtime]:
    """Return JAX, PyTorch, TorchScript and the C++ programs as functions of the sample settings."""
    bundle = load_bundle(bundle_path)
    generator = Generator(bundle)
    script = torchscript.load(file)[0]
    prompts = make_prompts(bundle, generator)

    def run_all(generate: Callable[..., Iterator[np.ndarray]], sample: SampleConfig) -> np.ndarray:
        prompt_ids = (encode_prompt(bundle.tokenizer, text) for text in prompts)
        return np.concatenate(
            [
                np.stack(
                    list(generate([ids] * rows, seed_range(sample.seed, rows), sample)), axis=1
                )
                for ids in prompt_ids
            ]
        )

    def stream_script(
        prompts: list[list[int]], seeds: list[int], s: SampleConfig
    ) -> Iterator[np.ndarray]:
        settings = [seeds[0] if name == "seed" else getattr(s, name) for name in SAMPLER_SETTINGS]
        tokens = script.generate(torch.tensor(prompts), s.max_new_tokens, *settings)
        return iter(tokens.numpy()[:, len(prompts[0]) :].T)

    def run_cpp(program: Path, file: Path, sample: SampleConfig) -> np.ndarray:
        names = ("max_new_tokens", *SAMPLER_SETTINGS)
        settings = {name: getattr(sample, name) for name in names}
        options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        command = [program, file, "--ids", "--prompts", "-", f"--num-samples={rows}", *options]
        output = subprocess.run(
            command, input="\n".join([*prompts, ""]), check=True, capture_output=True, text=True
        ).stdout
        return np.asarray([line.split() for line in output.splitlines()], np.int64)

    return {
        "JAX": lambda s: run_all(make_generator(bundle), s),
        "PyTorch": lambda s: run_all(lambda *a: stream(generator, *a), s),
        "TorchScript": lambda s: run_all(stream_script, s),
        "C++": lambda s: run_cpp(program, file, s),
        "Native": lambda s: run_cpp(runner, gguf, s),
    }


def find_differences(ids: np.ndarray, expected: np.ndarray) -> list[tuple[int, int]]:
    """Return the row and the first different token of every row that differs."""
    rows = (ids != expected).any(1).nonzero()[0]
    return [(int(row), int((ids[row] != expected[row]).argmax())) for row in rows]


_FILE = click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path)


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("file", type=_FILE)
@click.argument("program", type=_FILE)
@click.argument("gguf", type=_FILE)
@click.argument("runner", type=_FILE)
@click.option("--rows", default=13, show_default=True, help="Texts of each prompt and setting.")
@click.option("--only", multiple=True, help="Runtimes to compare, with the first one [all].")
def main(
    bundle: Path, file: Path, program: Path, gguf: Path, runner: Path, rows: int, only: list[str]
) -> None:
    """Compare the texts of BUNDLE in JAX and PyTorch, and of its exports in the C++ programs.

    FILE is a TorchScript export for PROGRAM, a build of valyrian-generate. GGUF is an export for
    RUNNER, a build of valyrian-run.
    """
    runtimes = make_runtimes(bundle, file, program, gguf, runner, rows)
    runtimes = {name: run for name, run in runtimes.items() if not only or name in only}
    first = next(iter(runtimes))
    counts = dict.fromkeys(runtimes, 0)
    for settings in EXAMPLE_SETTINGS:
        sample = SampleConfig("", NEW_TOKENS, *settings)
        expected = None
        for name, run in runtimes.items():
            start = time.perf_counter()
            ids = run(sample)
            seconds = time.perf_counter() - start
            expected = ids if expected is None else expected
            differences = find_differences(ids, expected)
            counts[name] += len(differences)
            print(f"{name:12} {sample}: {ids.size} tokens in {seconds:.0f} s", end=", ")
            print(f"differs at {differences}", flush=True)
    texts = PROMPTS * rows * len(EXAMPLE_SETTINGS)
    compared = f"{texts} texts differ from {first}, in {texts * NEW_TOKENS:,} tokens"
    for name, count in list(counts.items())[1:]:
        print(f"{name}: {count} of {compared}")


if __name__ == "__main__":
    main()
