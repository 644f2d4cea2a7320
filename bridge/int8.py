"""Matrices in a quarter of the bytes: int8 with one float32 scale for every output, unpacked when a file is loaded.

What runs is thus an ordinary float32 model with rounded weights, and gives the same text everywhere, as any other.
"""

import torch
from torch import Tensor, nn

from bridge.generator import Generator
from bridge.gpt import Embedding, Linear


class Int8Embedding(nn.Module):
    """Stands in for `Matrix`; a row has one scale."""

    packed: Tensor
    scale: Tensor
    weight: Tensor

    def __init__(self, matrix: Embedding) -> None:
        super().__init__()
        packed, scale = pack(matrix.weight.detach(), 1)
        self.register_buffer("packed", packed)
        self.register_buffer("scale", scale)
        self.register_buffer("weight", packed * scale)

    def __getstate__(self) -> tuple[Tensor, Tensor, bool]:
        return self.packed, self.scale, self.training

    def __setstate__(self, state: tuple[Tensor, Tensor, bool]) -> None:
        self.packed, self.scale, self.training = state
        self.weight = self.packed * self.scale


class Int8Linear(nn.Module):
    """Stands in for `Linear`; a column, which makes one output, has one scale."""

    packed: Tensor
    scale: Tensor
    bias: Tensor
    weight: Tensor

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        packed, scale = pack(linear.weight.detach(), 0)
        self.register_buffer("packed", packed)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", linear.bias.detach())
        self.register_buffer("weight", packed * scale)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in] to [N, out]."""
        return torch.mm(x, self.weight) + self.bias

    def __getstate__(self) -> tuple[Tensor, Tensor, Tensor, bool]:
        return self.packed, self.scale, self.bias, self.training

    def __setstate__(self, state: tuple[Tensor, Tensor, Tensor, bool]) -> None:
        self.packed, self.scale, self.bias, self.training = state
        self.weight = self.packed * self.scale


def pack(weight: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Round to int8 -127..127 times a scale, the largest absolute value along `dim` over 127."""
    scale = (weight.abs().amax(dim, keepdim=True) / 127).clamp(min=1e-30)
    return torch.round(weight / scale).to(torch.int8), scale


def quantize(generator: Generator, end_of_text: int) -> dict[str, float]:
    """Replace every matrix of the GPT, in place; biases and LayerNorm stay as they are.

    Returns:
        What it costs on texts that the exact model draws: mean and largest KL divergence of the next token in nats,
        and the share of places where the most probable token stays the same.
    """
    gpt = generator.gpt
    start = torch.full((16, 1), end_of_text)
    tokens = generator.generate(start, gpt.n_positions - 1, 1.0, 0, 1.0, 0)
    exact = gpt(tokens).double().log_softmax(-1)
    for parent in list(gpt.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Embedding):
                setattr(parent, name, Int8Embedding(child))
            elif isinstance(child, Linear):
                setattr(parent, name, Int8Linear(child))
    rounded = gpt(tokens).double().log_softmax(-1)
    kl = (exact.exp() * (exact - rounded)).sum(-1)
    same = (exact.argmax(-1) == rounded.argmax(-1)).double()
    return {"kl_mean": kl.mean().item(), "kl_max": kl.max().item(), "top1": same.mean().item()}
