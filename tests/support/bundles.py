"""A small bundle whose every parameter affects the logits."""

from typing import Any

import numpy as np

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.names import parameter_shapes
from valyrian_jax.config import ModelConfig
from valyrian_jax.tokenizer import train_bpe

CONFIG = ModelConfig(
    vocab_size=300, n_positions=24, n_embd=32, n_layer=3, n_head=4, activation="gelu", init_std=0.02
)
TEXT = (
    "the quick dragon sees a lazy wolf, and the wolf jumps over seventeen rivers; don't they? " * 20
)


def make_bundle(config: ModelConfig = CONFIG, **manifest: Any) -> Bundle:
    # Large weights and nonzero biases, so every parameter affects the logits.
    rng, tensors = np.random.default_rng(0), {}
    for name, shape in parameter_shapes(config).items():
        mean = 5.0 if ".ln_" in name and name.endswith("weight") else 0.0
        tensors[name] = (mean + 0.15 * rng.normal(size=shape)).astype(np.float32)
    return Bundle(config, tensors, train_bpe(TEXT, 300), manifest)
