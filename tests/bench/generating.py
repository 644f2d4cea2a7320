"""Text from a run beside `transformers`: one text on one thread, and 32 at a time; and text into tokens in TorchScript.

Uses the newest run under runs/ and `valyrian-generate` on the PATH (the README has both lines).
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
from measuring import ROOT, Row, in_turns, peak_bytes, peak_flops, seconds

from bridge import torchscript
from valyrian_jax.config import SampleConfig
from valyrian_jax.generation.generate import stream_tokens
from valyrian_jax.model.parameters import from_tensors
from valyrian_jax.run_directory import find_run, load_run_bundle

PROMPT, NEW = "valar", 60  # NEW fits the context: what goes beyond it, transformers cannot do
SETTINGS: dict[str, Any] = {"temperature": 0.8, "top_p": 0.95}
CALLS = {1: 8, 32: 4}
CPP_TEXTS = 120  # so many that the start of the process, which varies, weighs little


def rows(rounds: int) -> Iterator[Row]:
    """All rows about a run's text."""
    program = shutil.which("valyrian-generate")
    if program is None:
        raise click.ClickException(
            "valyrian-generate is not on the PATH; build it with the line in the README"
        )
    run = find_run(None)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "model.pt")
        torchscript.export(run / "bundle", file)
        for batch, threads in ((1, 1), (32, 1), (32, 2)):
            yield speed(run, file, program, batch, threads, rounds)
        yield encoding(file, rounds)


def speed(run: Path, file: Path, program: str, batch: int, threads: int, rounds: int) -> Row:
    """Tokens a second in all rows together; `valyrian-generate` draws its texts one at a time."""
    torch.set_num_threads(threads)
    peak = peak_flops(threads)
    bundle = load_run_bundle(run)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(run / "bundle").eval()
    theirs.generation_config.eos_token_id = None
    params, script = from_tensors(bundle.tensors), torchscript.load(file)[0]
    ids = bundle.tokenizer.encode(PROMPT)
    start = torch.tensor([ids] * batch)
    sample = SampleConfig(PROMPT, NEW, SETTINGS["temperature"], 0, SETTINGS["top_p"], 0)

    def cpp(calls: int) -> np.ndarray:
        options = ["--prompts", "-", "--ids", "--max-new-tokens", NEW, "--seed", 0]
        options += ["--temperature", SETTINGS["temperature"], "--top-p", SETTINGS["top_p"]]
        words = [str(word) for word in (program, file, *options)]
        out = subprocess.run(
            words, input=f"{PROMPT}\n" * calls, check=True, capture_output=True, text=True
        )
        return np.array([line.split() for line in out.stdout.splitlines()], int)

    def scripted() -> np.ndarray:
        return script.generate(start, NEW, SETTINGS["temperature"], 0, SETTINGS["top_p"], 0)[
            :, len(ids) :
        ].numpy()

    def jax() -> np.ndarray:
        return np.stack(list(stream_tokens(params, bundle.model, ids, sample, batch)), axis=1)

    def hugging_face() -> None:
        found = theirs.generate(
            start, max_new_tokens=NEW, do_sample=True, top_k=0, pad_token_id=0, **SETTINGS
        )
        assert found.shape == (batch, len(ids) + NEW)

    assert np.array_equal(scripted(), jax())
    assert batch > 1 or np.array_equal(cpp(1), jax())
    calls = CALLS[batch]
    tokens = calls * batch * NEW

    def repeated(generate: Callable[[], Any]) -> float:
        return tokens / seconds(lambda: [generate() for _ in range(calls)])

    def compiled() -> float:
        before = seconds(lambda: cpp(2))  # starting, loading and the first texts are left out
        return CPP_TEXTS * NEW / (seconds(lambda: cpp(2 + CPP_TEXTS)) - before)

    scripts = {"TorchScript": lambda: repeated(scripted)}
    work: dict[str, Callable[[], float]] = {"C++": compiled, **scripts} if batch == 1 else scripts
    if threads > 1 or batch == 1:
        work |= {"JAX": lambda: repeated(jax)}
    work |= {"transformers": lambda: repeated(hugging_face)}
    for once in work.values():
        once()
    weights = sum(
        tensor.size
        for name, tensor in bundle.tensors.items()
        if not name.endswith(("wte.weight", "wpe.weight"))
    )
    what = f"generating, batch {batch}, {threads} thread{'s' * (threads > 1)}" + " (JAX: two)" * (
        batch == 1
    )
    why = f"2 operations a weight and token, at {peak / 1e9:.0f} GFLOP/s, as large products ran"
    return Row(what, "tokens/s", in_turns(work, rounds), peak / (2 * weights), why)


def encoding(file: Path, rounds: int) -> Row:
    """Text into tokens by the exported file alone, one thread."""
    torch.set_num_threads(1)
    script = torchscript.load(file)[0]
    text = (ROOT / "data" / "High Valyrian.txt").read_text(encoding="utf-8")[:1_000_000]
    size = len(text.encode()) / 1e6
    data = torch.tensor(list(text.encode()))
    assert script.decode(script.encode(text)) == text
    assert script.bpe.encode(data).tolist() == script.encode(text)
    work = {
        "from a tensor of bytes": lambda: size / seconds(lambda: script.bpe.encode(data)),
        "from a string": lambda: size / seconds(lambda: script.encode(text)),
    }
    return Row(
        "encoding 1 MB in TorchScript, one thread",
        "MB/s",
        in_turns(work, 3 * rounds),
        peak_bytes() / 1e6,
        "reading the bytes once",
    )
