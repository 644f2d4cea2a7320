"""How often the runtimes draw different text from the same seeds, over a million tokens.

python tests/bench/same_text.py BUNDLE MODEL.pt PATH/TO/valyrian-generate
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from bridge import torchscript
from bridge.generator import Generator, stream
from bridge.torchscript import EXAMPLES
from valyrian_jax.bundle.bundle import load_bundle
from valyrian_jax.bundle.text_generation import encode_prompt
from valyrian_jax.config import SampleConfig
from valyrian_jax.generation.generate import stream_tokens
from valyrian_jax.model.parameters import from_tensors

PROMPTS, ROWS, NEW = 100, 13, 200


def main() -> None:
    source, file, program = load_bundle(sys.argv[1]), sys.argv[2], sys.argv[3]
    params, generator, script = (
        from_tensors(source.tensors),
        Generator(source),
        torchscript.load(Path(file))[0],
    )
    start = torch.full((PROMPTS, 1), source.tokenizer.end_of_text)
    texts = generator.generate(start, PROMPTS, 1.0, 0, 1.0, 99)[:, 1:].tolist()
    prompts = [
        " ".join(source.tokenizer.decode(ids[: i + 1]).split()) for i, ids in enumerate(texts)
    ]

    def rows_of(generate: Callable[..., Iterator[np.ndarray]], sample: SampleConfig) -> np.ndarray:
        starts = (encode_prompt(source.tokenizer, text) for text in prompts)
        return np.concatenate(
            [np.stack(list(generate(ids, sample, ROWS)), axis=1) for ids in starts]
        )

    def scripted(ids: list[int], s: SampleConfig, rows: int) -> Iterator[np.ndarray]:
        settings = s.temperature, s.top_k, s.top_p, s.seed
        return iter(
            script.generate(torch.tensor([ids] * rows), s.max_new_tokens, *settings)
            .numpy()[:, len(ids) :]
            .T
        )

    def compiled(s: SampleConfig) -> np.ndarray:
        options = [
            f"--{name.replace('_', '-')}={value}"
            for name, value in vars(s).items()
            if name != "prompt"
        ]
        command = [program, file, "--ids", "--prompts", "-", f"--num-samples={ROWS}", *options]
        out = subprocess.run(
            command, input="\n".join([*prompts, ""]), check=True, capture_output=True, text=True
        ).stdout
        return np.asarray([line.split() for line in out.splitlines()], np.int64)

    runtimes: dict[str, Callable[[SampleConfig], np.ndarray]] = {
        "JAX": lambda s: rows_of(lambda *a: stream_tokens(params, source.model, *a), s),
        "PyTorch": lambda s: rows_of(lambda *a: stream(generator, *a), s),
        "TorchScript": lambda s: rows_of(scripted, s),
        "C++": compiled,
    }
    differ = dict.fromkeys(runtimes, 0)
    for temperature, top_k, top_p, seed in EXAMPLES:
        sample = SampleConfig("", NEW, temperature, top_k, top_p, seed)
        expected = None
        for name, generate in runtimes.items():
            begin = time.perf_counter()
            found = generate(sample)
            expected = found if expected is None else expected
            places = [
                (int(row), int((found[row] != expected[row]).argmax()))
                for row in (found != expected).any(1).nonzero()[0]
            ]
            differ[name] += len(places)
            print(
                f"{name:12} {sample}: {found.size} tokens in {time.perf_counter() - begin:.0f} s, differs at {places}",
                flush=True,
            )
    total = PROMPTS * ROWS * NEW * len(EXAMPLES)
    for name, count in list(differ.items())[1:]:
        print(
            f"{name}: {count} of {PROMPTS * ROWS * len(EXAMPLES)} texts part from JAX, in {total:,} tokens"
        )


if __name__ == "__main__":
    main()
