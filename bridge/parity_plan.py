"""How much `verify` compares: everything of a small model, and less of a large one.

The parts of a comparison run one after another, so the largest part determines the memory. Its
limit is a multiple of the size of the weights. The number of generated tokens is limited by the
bytes of weights that generating them reads.
"""

from dataclasses import replace
from typing import NamedTuple

from valyrian_jax.bundle.memory import estimate_memory
from valyrian_jax.config import ModelConfig, TrainConfig
from valyrian_jax.tokenizer.display import format_size

ROWS = 8
WEIGHT_COPIES = 4  # limit of a comparison's memory, as a multiple of the float32 weights
SMALL = 3 << 29  # bytes that a comparison may take, however small the model is
READ_BYTES = 1 << 37  # limit on the bytes of weights that a runtime reads to generate its texts
MIN_NEW_TOKENS = 32  # Rather than generate fewer tokens in a text, leave texts out.
SETTINGS = 6  # settings of the sampler with which texts are generated

# Copies of the float32 weights that the largest part holds. float32: weights, gradients and sums of
# those. float64: weights, gradients, updates and moments, each twice as large, and those of JAX.
_COPIES = {"float32": 3, "float64": 18}


class Plan(NamedTuple):
    """What `verify` compares."""

    dtypes: tuple[str, ...]  # types in which stages and gradients are compared
    rows: int  # windows of tokens for stages and gradients
    length: int  # tokens in each window
    texts: int  # texts for each setting of the sampler
    new_tokens: int  # tokens in each text
    left_out: tuple[str, ...]  # what is compared only for smaller models, one line each


def plan_comparison(model: ModelConfig) -> Plan:
    """Return what to compare for a model."""
    T, weights = model.n_positions, estimate_memory(model).weights
    limit = max(SMALL, WEIGHT_COPIES * weights)
    windows = [(rows, T) for rows in (8, 4, 2, 1)]
    short = [(1, T >> halvings) for halvings in range(1, T.bit_length() - 1)]
    candidates = [
        *((("float32", "float64"), *window) for window in windows),
        *((("float32",), *window) for window in windows + short),
    ]
    fitting = (choice for choice in candidates if _estimate(model, *choice) <= limit)
    dtypes, rows, length = next(fitting, candidates[-1])
    tokens = READ_BYTES // weights // SETTINGS  # for each setting
    texts = ROWS if tokens >= ROWS * MIN_NEW_TOKENS else 2
    new_tokens = min(T * 3 // 2, max(1, tokens // texts))
    left_out = []
    if "float64" not in dtypes:
        needed = format_size(_estimate(model, ("float64",), 1, T))
        left_out.append(
            f"float64 and the weights after a step: they need about {needed}, and the limit is "
            f"{format_size(limit)}"
        )
    if (rows, length) != windows[0]:
        left_out.append(
            f"stages and gradients beyond {rows} x {length} tokens, of {ROWS} x {T}: the limit of "
            f"memory is {format_size(limit)}"
        )
    if (texts, new_tokens) != (ROWS, T * 3 // 2):
        left_out.append(
            f"texts beyond {texts} x {new_tokens} new tokens for each setting, of {ROWS} x "
            f"{T * 3 // 2}: they would take too long"
        )
    return Plan(dtypes, rows, length, texts, new_tokens, tuple(left_out))


def _estimate(model: ModelConfig, dtypes: tuple[str, ...], rows: int, length: int) -> int:
    """Return the bytes of the largest part of a comparison."""
    dtype = dtypes[-1]
    window = replace(model, n_positions=length)
    activations = estimate_memory(window, TrainConfig(batch_size=rows)).activations
    distributions = 5 * 8 * rows * length * model.vocab_size  # for the KL divergence, in float64
    width = {"float32": 1, "float64": 2}[dtype]
    return _COPIES[dtype] * estimate_memory(model).weights + width * activations + distributions
