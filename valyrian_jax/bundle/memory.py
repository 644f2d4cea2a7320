"""The memory that a model needs, estimated from its configuration before anything is allocated.

The estimates are within a factor of `ACCURACY` of what XLA reports for its compiled programs on one
CPU device (tests/bundle/test_memory.py), and within 15% on meshes (tests/planning/test_plan.py).
They count arrays; Python and its libraries come on top.
"""

from typing import NamedTuple

from valyrian_jax.bundle.names import axis_sizes, count_parameters
from valyrian_jax.config import MeshConfig, ModelConfig, TrainConfig
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer.display import format_size

ACCURACY = 1.5
MAX_TEXTS = 64  # texts generated together
GENERATION_BYTES = 1 << 31  # memory of texts generated together, outside of a run
ONE_DEVICE = MeshConfig(1, 1, 1)
# Arrays of [rows, T, D] that a block keeps for its gradient; the tensor axis does not divide the
# first ones, such as the inputs of its norms.
_STATES, _WHOLE_STATES = 17, 8


class MemoryEstimate(NamedTuple):
    """Bytes that a model needs on one device.

    The peak of a training step is at the start of its backward pass, when all activations exist, or
    at its update, when old and new values exist.
    """

    weights: int  # parameters in float32
    optimizer: int  # the two moments of Adam; Muon has one for the matrices in the blocks
    gradients: int  # what exists beside the activations: sums of gradients, and other weights
    activations: int  # what a forward pass keeps for the gradients of one microbatch
    update: int  # gradients, and new values before they replace the old ones
    evaluation: int  # a forward pass of one microbatch in float32, without gradients
    text: int  # cache, logits and scores while one text is generated

    @property
    def training(self) -> int:
        """Bytes of a training step."""
        return self.weights + self.optimizer + max(self.gradients + self.activations, self.update)


def estimate_memory(
    model: ModelConfig,
    train: TrainConfig | None = None,
    keeps_scores: bool = True,
    mesh: MeshConfig = ONE_DEVICE,
) -> MemoryEstimate:
    """Estimate the memory of training, evaluation and generation on one device.

    Args:
        model: Shape of the model.
        train: How it is trained; None: as by default.
        keeps_scores: Whether attention keeps its scores for the gradient; cuDNN's does not.
        mesh: Sizes of the mesh in training. The last two figures are those of one device.
    """
    train = train or TrainConfig()
    T, D, L = model.n_positions, model.n_embd, model.n_layer
    rows = train.batch_size // train.accumulate
    read = -(-T // 4)  # tokens of a window that are read at once
    shard = _count_shard_bytes(model, mesh)
    states, scores = rows * T * D, rows * model.n_head * T * T  # numbers in one block
    logits = rows * T * model.vocab_size
    whole = _WHOLE_STATES * states
    block = whole + ((_STATES * states - whole) + 3 * scores * keeps_scores) // mesh.tensor
    kept_states = L * states + block if train.remat else L * block
    width = 2 if train.dtype == "bfloat16" else 4
    activations = width * (kept_states + 2 * logits // _vocab_shards(model, mesh))
    return MemoryEstimate(
        weights=shard,
        optimizer=2 * shard,
        gradients=_estimate_gradients(model, train, mesh, shard),
        activations=activations // (mesh.data * mesh.fsdp),
        update=4 * shard,
        evaluation=4 * max(10 * states + scores, 2 * logits),
        # The cache exists twice: empty, and with the tokens of the prompt.
        text=4 * (4 * L * T * D + read * max(10 * D + model.n_head * T, model.vocab_size)),
    )


def _vocab_shards(model: ModelConfig, mesh: MeshConfig) -> int:
    """Return the number of devices over which the tensor axis shards the vocabulary."""
    return 1 if axis_sizes(model)["vocab"] % mesh.tensor else mesh.tensor


def _count_shard_bytes(model: ModelConfig, mesh: MeshConfig) -> int:
    """Return the bytes of one device's shard of the parameters in float32."""
    tables = axis_sizes(model)["vocab"] * model.n_embd * (2 - model.tie_word_embeddings)
    rest = count_parameters(model) - tables
    return 4 * (rest // mesh.tensor + tables // _vocab_shards(model, mesh)) // mesh.fsdp


def _estimate_gradients(
    model: ModelConfig, train: TrainConfig, mesh: MeshConfig, shard: int
) -> int:
    """Estimate the bytes of gradients and copies of weights that exist beside the activations.

    These are the sum over microbatches, the weights in bfloat16, and what fsdp gathers: all
    weights, or, in a loop over the layers, the token table and its gradient.
    """
    sums = shard * (1 + train.remat) if train.accumulate > 1 else 0
    narrow = shard // 2 if train.dtype == "bfloat16" else 0
    if mesh.fsdp == 1:
        return sums + narrow
    table = 4 * axis_sizes(model)["vocab"] * model.n_embd // _vocab_shards(model, mesh)
    return sums + narrow + (2 * table if train.scan_layers else mesh.fsdp * shard)


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
