"""Compare generation with `transformers`, uneven batches with single calls, and measure encoding.

It uses the newest run under runs/ and `valyrian-generate` on the PATH; the README has the commands
that make both.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import transformers
from measuring import ROOT, Row, measure_flops, measure_in_turns, measure_read_speed, time_call

import bridge
import valyrian_jax
from bridge import torchscript
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.config import SampleConfig
from valyrian_jax.generation.generate import stream_tokens
from valyrian_jax.model.parameters import from_tensors
from valyrian_jax.run_directory import find_run, load_run_bundle

PROMPT, NEW_TOKENS = "valar", 60  # fit the context; transformers cannot generate beyond it
SETTINGS: dict[str, Any] = {"temperature": 0.8, "top_p": 0.95}
CALLS = {1: 8, 32: 4}
CPP_TEXTS = 120  # so many that the start of the process, which varies, does not matter
SAMPLE = SampleConfig(PROMPT, NEW_TOKENS, SETTINGS["temperature"], 0, SETTINGS["top_p"], 0)


def measure(rounds: int) -> Iterator[Row]:
    program = shutil.which("valyrian-generate")
    if program is None:
        raise click.ClickException(
            "cannot find valyrian-generate: expected it on the PATH; "
            "build it with the commands in README.md"
        )
    run = find_run(None)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "model.pt")
        torchscript.export(run / "bundle", file)
        for batch, threads in ((1, 1), (32, 1), (32, 2)):
            yield measure_speed(run, file, program, batch, threads, rounds)
        yield from measure_uneven(run, file, rounds)
        yield measure_encoding(file, rounds)


def generate_with_cpp(program: str, file: Path, texts: int) -> np.ndarray:
    """Return the ids of some texts; the program generates one text at a time."""
    options = ["--prompts", "-", "--ids", "--max-new-tokens", NEW_TOKENS, "--seed", 0]
    options += ["--temperature", SETTINGS["temperature"], "--top-p", SETTINGS["top_p"]]
    command = [str(word) for word in (program, file, *options)]
    output = subprocess.run(
        command, input=f"{PROMPT}\n" * texts, check=True, capture_output=True, text=True
    ).stdout
    return np.array([line.split() for line in output.splitlines()], int)


def cpp_tokens_per_second(program: str, file: Path) -> float:
    """Return the speed of C++ without its start, loading and first texts."""
    start = time_call(lambda: generate_with_cpp(program, file, 2))
    seconds = time_call(lambda: generate_with_cpp(program, file, 2 + CPP_TEXTS))
    return CPP_TEXTS * NEW_TOKENS / (seconds - start)


def make_generators(
    run: Path, bundle: Bundle, file: Path, batch: int
) -> dict[str, Callable[[], np.ndarray]]:
    """Return, for every runtime but C++, a function that returns the new ids (B, T)."""
    reference = transformers.AutoModelForCausalLM.from_pretrained(run / "bundle").eval()
    reference.generation_config.eos_token_id = None
    params, script = from_tensors(bundle.tensors), torchscript.load(file)[0]
    ids = bundle.tokenizer.encode(PROMPT)
    prompts = torch.tensor([ids] * batch)

    def generate_with_torchscript() -> np.ndarray:
        tokens = script.generate(
            prompts, NEW_TOKENS, SETTINGS["temperature"], 0, SETTINGS["top_p"], 0
        )
        return tokens[:, len(ids) :].numpy()

    def generate_with_jax() -> np.ndarray:
        return np.stack(
            list(stream_tokens(params, bundle.model, [ids] * batch, range(batch), SAMPLE)), axis=1
        )

    def generate_with_transformers() -> np.ndarray:
        tokens = reference.generate(
            prompts, max_new_tokens=NEW_TOKENS, do_sample=True, top_k=0, pad_token_id=0, **SETTINGS
        )
        assert tokens.shape == (batch, len(ids) + NEW_TOKENS)
        return tokens[:, len(ids) :].numpy()

    return {
        "TorchScript": generate_with_torchscript,
        "JAX": generate_with_jax,
        "transformers": generate_with_transformers,
    }


def measure_speed(
    run: Path, file: Path, program: str, batch: int, threads: int, rounds: int
) -> Row:
    """Measure tokens per second in all rows together."""
    torch.set_num_threads(threads)
    flops = measure_flops(threads)
    bundle = load_run_bundle(run)
    generators = make_generators(run, bundle, file, batch)
    expected = generators["JAX"]()
    assert np.array_equal(generators["TorchScript"](), expected)
    assert batch > 1 or np.array_equal(generate_with_cpp(program, file, 1), expected)
    if threads == 1 and batch > 1:
        del generators["JAX"]  # it always uses two threads
    calls = CALLS[batch]

    def measure_generator(generate: Callable[[], Any]) -> float:
        seconds = time_call(lambda: [generate() for _ in range(calls)])
        return calls * batch * NEW_TOKENS / seconds

    tasks: dict[str, Callable[[], float]] = {}
    if batch == 1:
        tasks["C++"] = lambda: cpp_tokens_per_second(program, file)
    for name, generate in generators.items():
        tasks[name] = lambda generate=generate: measure_generator(generate)
    for task in tasks.values():
        task()
    embeddings = ("wte.weight", "wpe.weight")
    weights = sum(a.size for name, a in bundle.tensors.items() if not name.endswith(embeddings))
    title = f"generating, batch {batch}, {threads} thread{'s' * (threads > 1)}"
    title += " (JAX: two)" * (batch == 1)
    basis = (
        f"2 FLOP per weight and token, at {flops / 1e9:.0f} GFLOP/s, the speed of large products"
    )
    return Row(title, "tokens/s", measure_in_turns(tasks, rounds), flops / (2 * weights), basis)


def measure_uneven(run: Path, file: Path, rounds: int) -> Iterator[Row]:
    """Measure 32 prompts of different lengths in one call against as many calls, on two threads."""
    torch.set_num_threads(2)
    script, seeds = torchscript.load(file)[0], list(range(32))
    words = ("valar morghūlis sīr vali kari issi ñuha zaldrīzes dāria se hen " * 3).split()
    prompts = [" ".join(words[i % 7 : i % 7 + 1 + i % 9]) for i in seeds]
    settings = NEW_TOKENS, SETTINGS["temperature"], 0, SETTINGS["top_p"]

    def make_tasks(model: Any) -> dict[str, Callable[[], list[str]]]:
        options = SETTINGS | {"max_new_tokens": NEW_TOKENS}
        return {
            "together": lambda: model.generate(prompts, seeds=seeds, **options),
            "one by one": lambda: [
                model.generate(prompt, seed=seed, **options)
                for prompt, seed in zip(prompts, seeds, strict=True)
            ],
        }

    runtimes: dict[str, dict[str, Callable[[], list[str]]]] = {
        "TorchScript": {
            "together": lambda: script.generate_texts(prompts, seeds, *settings),
            "one by one": lambda: [
                script.generate_text(prompt, *settings, seed)
                for prompt, seed in zip(prompts, seeds, strict=True)
            ],
        },
        "PyTorch": make_tasks(bridge.load(run / "bundle")),
        "JAX": make_tasks(valyrian_jax.load(run / "bundle")),
    }
    for name, tasks in runtimes.items():
        together, alone = (generate() for generate in tasks.values())  # also compiles
        assert together == alone
        speeds = {
            title: lambda generate=generate: 32 / min(time_call(generate) for _ in range(4))
            for title, generate in tasks.items()
        }
        values = measure_in_turns(speeds, rounds)
        yield Row(f"32 uneven prompts, {name}, two threads", "texts/s", values)


def measure_encoding(file: Path, rounds: int) -> Row:
    """Measure how fast the exported file encodes text, on one thread."""
    torch.set_num_threads(1)
    script = torchscript.load(file)[0]
    text = (ROOT / "data" / "High Valyrian.txt").read_text(encoding="utf-8")[:1_000_000]
    megabytes = len(text.encode()) / 1e6
    data = torch.tensor(list(text.encode()))
    assert script.decode(script.encode(text)) == text
    assert script.bpe.encode(data).tolist() == script.encode(text)
    tasks = {
        "from a tensor of bytes": lambda: megabytes / time_call(lambda: script.bpe.encode(data)),
        "from a string": lambda: megabytes / time_call(lambda: script.encode(text)),
    }
    return Row(
        "encoding 1 MB in TorchScript, one thread",
        "MB/s",
        measure_in_turns(tasks, 3 * rounds),
        measure_read_speed() / 1e6,
        "reading the bytes once",
    )
