"""Compare our GGUF files in llama.cpp with PyTorch: token ids, logits, most probable tokens.

pip install llama-cpp-python  # builds llama.cpp, for ten minutes and more
python tests/bench/gguf_in_llama.py [--positions 10000] [--strings 100000]
"""

import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import gelu as GELU

sys.path.append(str(Path(__file__).parents[2]))

from bridge.gguf import export as gguf_export
from bridge.gpt import to_module
from bridge.importers.gpt2 import read_gpt2
from tests.bench.hostile import draw_strings
from tests.support.hostile_texts import HOSTILE_TEXTS
from tests.support.oracles import HOSTILE_STRINGS
from valyrian_jax.bundle.bundle import Bundle, load_bundle, save_bundle
from valyrian_jax.bundle.names import parameter_shapes
from valyrian_jax.bundle.shipped_model import SHIPPED_MODEL
from valyrian_jax.config import ModelConfig

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "data" / "High Valyrian.txt"
# Shapes and settings that the shipped model does not have; the weights are random.
VARIANTS: dict[str, dict[str, Any]] = {
    "tied, epsilon 1e-3": {"tie_word_embeddings": True, "layer_norm_epsilon": 1e-3},
    "epsilon 1e-12, 3 heads, width 96": {"layer_norm_epsilon": 1e-12, "n_embd": 96, "n_head": 3},
    "exact GELU": {"activation": "gelu"},
}


@dataclass
class Agreement:
    """How near the logits of llama.cpp are to those of PyTorch.

    Attributes:
        positions: Number of positions.
        largest: Largest logit.
        difference: Largest difference of a logit.
        other_top: Positions where another token is the most probable.
        kl: Sum of the KL divergences in nats.
    """

    positions: int = 0
    largest: float = 0.0
    difference: float = 0.0
    other_top: int = 0
    kl: float = 0.0

    def add(self, found: Tensor, expected: Tensor) -> None:
        """Count the logits [T, V] of a window."""
        self.positions += len(expected)
        self.largest = max(self.largest, float(expected.abs().max()))
        self.difference = max(self.difference, float((found - expected).abs().max()))
        self.other_top += int((found.argmax(-1) != expected.argmax(-1)).sum())
        p, q = expected.log_softmax(-1), found.log_softmax(-1)
        self.kl += float((p.exp() * (p - q)).sum())

    def __str__(self) -> str:
        return (
            f"{self.positions:,} positions, logits up to {self.largest:.1f} differ by at most "
            f"{self.difference:.1e}; another most probable token at {self.other_top}; "
            f"KL {self.kl / self.positions:.1e} nats"
        )


def open_file(path: Path, context: int) -> Any:
    from llama_cpp import GGML_TYPE_F32, Llama

    # Keys and values are float16 otherwise.
    cache = {"type_k": GGML_TYPE_F32, "type_v": GGML_TYPE_F32}
    sizes = {"n_ctx": context, "n_batch": context, "n_threads": 1}
    return Llama(str(path), logits_all=True, verbose=False, **sizes, **cache)


def compare_tokens(llama: Any, bundle: Bundle, texts: Iterable[str]) -> tuple[int, list[str]]:
    """Return the number of texts, and those with other ids in llama.cpp."""
    count, different = 0, []
    for text in texts:
        count += 1
        ids = llama.tokenize(text.encode(), add_bos=False, special=False) if text else []
        if ids != bundle.tokenizer.encode(text):
            different.append(text)
    return count, different


def draw_texts(count: int) -> Iterator[str]:
    """Yield hostile texts that are valid UTF-8; llama.cpp takes no other bytes."""
    yield from HOSTILE_STRINGS
    for make in HOSTILE_TEXTS.values():
        yield make(2000).decode("utf-8", "ignore")
    for string in draw_strings(count):
        text = string.decode("utf-8", "ignore") if isinstance(string, bytes) else string
        yield text.encode("utf-8", "ignore").decode()


def look_up_gelu(x: Tensor, approximate: str) -> Tensor:
    """Return the tanh form of GELU as llama.cpp computes it: from a table of float16."""
    y = GELU(x.half().float(), approximate="tanh").half().float()
    return torch.where(x <= -10, 0.0, torch.where(x >= 10, x, y))


def compare_logits(llama: Any, bundle: Bundle, windows: np.ndarray) -> tuple[Agreement, Agreement]:
    """Compare the logits of all positions of windows [N, T] with PyTorch.

    Returns:
        The agreement with our module, and with the same module with llama.cpp's table of GELU.
    """
    gpt, plain, with_table = to_module(bundle), Agreement(), Agreement()
    for window in windows:
        llama.reset()
        llama.eval(window.tolist())
        found = torch.from_numpy(llama.scores[: len(window)].astype(np.float64))
        tokens = torch.from_numpy(window)[None]
        with torch.no_grad():
            plain.add(found, gpt(tokens)[0].double())
            with mock.patch("torch.nn.functional.gelu", look_up_gelu):
                with_table.add(found, gpt(tokens)[0].double())
    return plain, with_table


def make_windows(bundle: Bundle, positions: int) -> np.ndarray:
    """Return windows [N, T] of the end of the corpus; most of it is training text."""
    T = bundle.model.n_positions
    text = CORPUS.read_text(encoding="utf-8")[-12 * positions :]
    ids = np.array(bundle.tokenizer.encode(text), np.int64)
    count = -(-positions // T)
    return ids[: count * T].reshape(count, T)


def make_random_bundle(bundle: Bundle, **changes: Any) -> Bundle:
    """Return a bundle of two blocks with random weights and the tokenizer of another one."""
    config = replace(
        ModelConfig(vocab_size=bundle.model.vocab_size, n_embd=64, n_layer=2, n_head=4), **changes
    )
    rng = np.random.default_rng(0)
    norms = ("ln_1.weight", "ln_2.weight", "ln_f.weight")
    tensors = {
        name: (rng.normal(size=shape) * 0.2 + name.endswith(norms)).astype(np.float32)
        for name, shape in parameter_shapes(config).items()
    }
    return Bundle(config, tensors, bundle.tokenizer)


def compare_file(directory: Path, path: Path, quantize: str | None, positions: int) -> None:
    """Export a bundle, compare the file in llama.cpp with its own weights in PyTorch, and print."""
    gguf_export.write(directory, path, quantize)
    bundle = read_gpt2(path).bundle
    llama = open_file(path, bundle.model.n_positions)
    plain, with_table = compare_logits(llama, bundle, make_windows(bundle, positions))
    print(f"{path.stem}: {plain}\n  with its table of GELU in PyTorch: {with_table}", flush=True)


@click.command()
@click.option("--positions", default=10_000, show_default=True, help="Positions of each file.")
@click.option("--strings", default=100_000, show_default=True, help="Random hostile strings.")
def main(positions: int, strings: int) -> None:
    """Compare files of the shipped model, and of random ones, in llama.cpp and in PyTorch."""
    torch.set_num_threads(1)
    bundle = load_bundle(SHIPPED_MODEL)
    with tempfile.TemporaryDirectory() as name:
        for quantize in (None, "f16", "q8_0"):
            path = Path(name) / f"shipped, {quantize or 'f32'}.gguf"
            compare_file(SHIPPED_MODEL, path, quantize, positions)
        llama = open_file(path, bundle.model.n_positions)
        documents = CORPUS.read_text(encoding="utf-8").split("\n\n")
        texts = {"documents of the corpus": documents, "hostile": draw_texts(strings)}
        for kind, group in texts.items():
            count, different = compare_tokens(llama, bundle, group)
            print(f"{kind}: {count:,} texts, {len(different)} with other ids", flush=True)
            for text in different[:20]:
                print(f"  {text[:60]!r}")
        for variant, changes in VARIANTS.items():
            directory = Path(name) / variant
            save_bundle(make_random_bundle(bundle, **changes), directory)
            compare_file(directory, Path(name) / f"random, {variant}.gguf", None, 1000)


if __name__ == "__main__":
    main()
