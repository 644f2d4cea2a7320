"""Measure what rounded weights cost the C++17 runner: KL divergence to float32, and equal top-1.

python tests/bench/native_quantized.py "data/High Valyrian.txt"
"""

import tempfile
from pathlib import Path

import click
import numpy as np
from gguf import GGMLQuantizationType as StorageType

from bridge.cpp.native.example import Model
from bridge.gguf.writer import write_gguf
from tests.support.native import build_native
from valyrian_jax.bundle.bundle import load_bundle
from valyrian_jax.bundle.shipped_model import SHIPPED_MODEL

TYPES = {"f16": StorageType.F16, "q8_0": StorageType.Q8_0}
WINDOWS = 400


def log_probabilities(model: Model, windows: np.ndarray) -> np.ndarray:
    """Return [N, T, V] of windows [N, T]."""
    logits = np.stack(
        [np.array(model.logits(ids)).reshape(len(ids), -1) for ids in windows.tolist()]
    ).astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@click.command()
@click.argument("corpus", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(corpus: Path) -> None:
    """Compare windows of the end of CORPUS, which is held out, and windows of random tokens."""
    bundle = load_bundle(SHIPPED_MODEL)
    size = WINDOWS * bundle.model.n_positions
    text = corpus.read_bytes()
    held_out = bundle.tokenizer.encode_bytes(text[-len(text) // 25 :])[:size]
    drawn = np.random.default_rng(0).integers(0, bundle.model.vocab_size, size)
    inputs = {"held-out text": np.array(held_out), "random ids": drawn}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model.gguf"
        for kind, tokens in inputs.items():
            windows = tokens[: len(tokens) // bundle.model.n_positions * bundle.model.n_positions]
            windows = windows.reshape(-1, bundle.model.n_positions)
            write_gguf(path, bundle, StorageType.F32, {})
            library = build_native() / "libvalyrian.so"
            exact = log_probabilities(Model(library, path), windows)
            for title, storage in TYPES.items():
                write_gguf(path, bundle, storage, {})
                rounded = log_probabilities(Model(library, path), windows)
                divergence = (np.exp(exact) * (exact - rounded)).sum(-1).mean()
                same = (exact.argmax(-1) == rounded.argmax(-1)).mean()
                print(
                    f"{title}, {windows.size:,} tokens of {kind}: "
                    f"KL {divergence:.1e} nats, top-1 equal {same:.2%}"
                )


if __name__ == "__main__":
    main()
