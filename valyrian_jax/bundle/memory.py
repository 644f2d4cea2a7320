"""The memory that a model needs, estimated from its configuration before anything is allocated.

The estimates are within a factor of `ACCURACY` of what XLA reports for its compiled programs
(tests/bundle/test_memory.py). They count arrays; Python and its libraries come on top.
"""

from typing import NamedTuple

from valyrian_jax.bundle.names import count_parameters
from valyrian_jax.config import ModelConfig, TrainConfig
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer.display import format_size

ACCURACY = 1.5
MAX_TEXTS = 64  # texts generated together
GENERATION_BYTES = 1 << 31  # memory of texts generated together, outside of a run


class MemoryEstimate(NamedTuple):
    """Bytes that a model needs on one device."""

    weights: int  # parameters in float32
    optimizer: int  # the two moments of Adam
    gradients: int  # gradients, and new values before they replace the old ones
    activations: int  # what a forward pass keeps for the gradients of one microbatch
    evaluation: int  # a forward pass of one microbatch in float32, without gradients
    text: int  # cache, logits and scores while one text is generated

    @property
    def training(self) -> int:
        """Bytes of a training step."""
        return self.weights + self.optimizer + self.gradients + self.activations


def estimate_memory(
    model: ModelConfig, train: TrainConfig | None = None, keeps_scores: bool = True
) -> MemoryEstimate:
    """Estimate the memory of training, evaluation and generation on one device.

    Attention keeps its scores for the gradient, except cuDNN's: there `keeps_scores` is False.
    """
    train = train or TrainConfig()
    rows, T = train.batch_size // train.accumulate, model.n_positions
    D, L = model.n_embd, model.n_layer
    read = -(-T // 4)  # tokens of a window that are read at once
    weights = 4 * count_parameters(model)
    width = 2 if train.dtype == "bfloat16" else 4
    states, scores = rows * T * D, rows * model.n_head * T * T  # numbers in one block
    logits = rows * T * model.vocab_size
    block = 17 * states + 3 * scores * keeps_scores
    kept = L * states + block if train.remat else L * block
    return MemoryEstimate(
        weights=weights,
        optimizer=2 * weights,
        gradients=2 * weights,
        activations=width * (kept + 2 * logits),
        evaluation=4 * max(10 * states + scores, 2 * logits),
        # The cache is there twice: empty, and with the tokens of the prompt.
        text=4 * (4 * L * T * D + read * max(10 * D + model.n_head * T, model.vocab_size)),
    )


def count_texts(model: ModelConfig, limit: int = GENERATION_BYTES) -> int:
    """Return how many texts may be generated together within a limit in bytes, at least one."""
    return max(1, min(MAX_TEXTS, limit // estimate_memory(model).text))


def check_memory(needed: int, memory: int, purpose: str, remedy: str) -> None:
    """Check an estimate of bytes against those of a host or device, before they are allocated.

    `purpose` is what needs the memory, such as "training this model"; `remedy` is what the user can
    do. An estimate that is too large by less than `ACCURACY` passes.
    """
    if needed > ACCURACY * memory:
        raise UserError(
            f"{purpose} does not fit into memory: expected at most "
            f"{format_size(memory)}, found an estimate of {format_size(needed)}; {remedy}"
        )
