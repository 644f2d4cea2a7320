"""Int8 weights: a quarter of the bytes of float32, with one float32 scale for every output.

Loading a file unpacks the weights, so the model runs in float32 with rounded weights and gives the
same text in every runtime.
"""

import torch
from torch import Tensor, nn

from bridge.export_metadata import Cost
from bridge.generator import Generator
from bridge.gpt import GPT, Embedding, Linear, multiply
from bridge.sampler import check_logits

READ_BYTES = 1 << 35  # limit on the bytes of weights that generating the texts reads
SMALL = 1 << 30  # bytes that the distributions may take, however small the model is


class Int8Embedding(nn.Module):
    """An `Embedding` with int8 weights; each row has one scale."""

    rounded: Tensor
    scale: Tensor
    weight: Tensor

    def __init__(self, embedding: Embedding) -> None:
        super().__init__()
        rounded, scale = round_to_int8(embedding.weight.detach(), 1)
        self.register_buffer("rounded", rounded)
        self.register_buffer("scale", scale)
        self.register_buffer("weight", rounded * scale)

    def __getstate__(self) -> tuple[Tensor, Tensor, bool]:
        return self.rounded, self.scale, self.training

    def __setstate__(self, state: tuple[Tensor, Tensor, bool]) -> None:
        self.rounded, self.scale, self.training = state
        self.weight = self.rounded * self.scale


class Int8Linear(nn.Module):
    """A `Linear` with int8 weights; each column, which computes one output, has one scale."""

    rounded: Tensor
    scale: Tensor
    bias: Tensor
    weight: Tensor

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        rounded, scale = round_to_int8(linear.weight.detach(), 0)
        self.register_buffer("rounded", rounded)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", linear.bias.detach())
        self.register_buffer("weight", rounded * scale)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in] to [N, out]."""
        return multiply(x, self.weight) + self.bias

    def __getstate__(self) -> tuple[Tensor, Tensor, Tensor, bool]:
        return self.rounded, self.scale, self.bias, self.training

    def __setstate__(self, state: tuple[Tensor, Tensor, Tensor, bool]) -> None:
        self.rounded, self.scale, self.bias, self.training = state
        self.weight = self.rounded * self.scale


def round_to_int8(weight: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return the weight as int8 (-127 to 127), and its scale: the maximum along `dim` over 127."""
    scale = (weight.abs().amax(dim, keepdim=True) / 127).clamp(min=1e-30)
    return torch.round(weight / scale).to(torch.int8), scale


def choose_sample(gpt: GPT) -> tuple[int, int]:
    """Return the rows and tokens on which the cost of int8 is measured.

    They are 16 rows of the whole context, or fewer where the logits would take more memory than
    the weights, or where generating would read the weights too often.
    """
    weights = sum(tensor.nbytes for tensor in gpt.state_dict().values())
    length = min(gpt.n_positions, max(2, READ_BYTES // weights))
    # Logits, two distributions in float64 and their products.
    bytes_per_row = 5 * 8 * length * gpt.transformer.wte.weight.shape[0]
    return max(1, min(16, max(SMALL, weights) // bytes_per_row)), length


def quantize(generator: Generator, end_of_text: int) -> Cost:
    """Replace every matrix of the GPT by an int8 one, in place; biases and norms stay float32.

    Returns:
        The cost on texts sampled from the exact model; see `compare_next_tokens`.
    """
    gpt = generator.gpt
    tokens = sample_tokens(generator, end_of_text)
    exact = gpt(tokens)
    for parent in list(gpt.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Embedding):
                setattr(parent, name, Int8Embedding(child))
            elif isinstance(child, Linear):
                setattr(parent, name, Int8Linear(child))
    return compare_next_tokens(exact, gpt(tokens))


def sample_tokens(generator: Generator, end_of_text: int) -> Tensor:
    """Return texts of a model [B, T] to compare it on with a changed one."""
    rows, length = choose_sample(generator.gpt)
    prompts = torch.full((rows, 1), end_of_text, dtype=torch.int64)
    return generator.generate(prompts, length - 1, 1.0, 0, 1.0, 0)


def compare_next_tokens(exact: Tensor, changed: Tensor) -> Cost:
    """Compare the logits [B, T, V] of a changed model with those of the exact one.

    Returns:
        Mean and largest KL divergence of the next token in nats (`kl_mean`, `kl_max`), and the
        share of positions where the most probable token stays the same (`top1`).

    Raises:
        UserError: The logits of a model are not finite.
    """
    for logits in (exact, changed):
        check_logits(logits)
    exact, changed = exact.double().log_softmax(-1), changed.double().log_softmax(-1)
    kl = (exact.exp() * (exact - changed)).sum(-1)
    is_same = (exact.argmax(-1) == changed.argmax(-1)).double()
    return {"kl_mean": kl.mean().item(), "kl_max": kl.max().item(), "top1": is_same.mean().item()}
