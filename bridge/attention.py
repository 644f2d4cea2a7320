"""Where tokens look: the weights that the module's fused attention keeps to itself, computed again in the open."""

import math

import torch
from torch import Tensor

from .model import GPT, Block


@torch.no_grad()
def attention(gpt: GPT, tokens: Tensor) -> Tensor:
    """How much every token of tokens [B, T], T <= n_positions, looks at every other: [L, B, H, T, T]; rows sum to 1."""
    B, T = tokens.shape
    H = gpt.n_head
    later = torch.ones(T, T, dtype=torch.bool, device=tokens.device).triu(1)
    x = gpt.transformer.embed(tokens, 0)  # (B T, D)
    layers = []
    for block in gpt.transformer.h:
        assert isinstance(block, Block)
        q, k, _ = block.attn.c_attn(block.ln_1(x)).view(B, T, 3, H, -1).permute(2, 0, 3, 1, 4)  # (B, H, T, K) each
        scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(later, -math.inf)
        layers.append(scores.softmax(-1))
        x = block(x, B, None, 0)
    return torch.stack(layers)
