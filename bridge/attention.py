"""Where tokens look: the weights that the module's fused attention keeps to itself, computed again in the open."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from .model import GPT, Block


def attention(gpt: GPT, tokens: Tensor) -> Iterator[Tensor]:
    """How much every token of tokens [B, T], T <= n_positions, looks at every other; rows sum to 1.

    Yields:
        [B, H, T, T], of query and key, for every layer. (All at once are gigabytes where the context is long.)
    """
    B, T = tokens.shape
    later = torch.ones(T, T, dtype=torch.bool, device=tokens.device).triu(1)
    x = gpt.transformer.embed(tokens, 0)  # (B T, D)
    for block in gpt.transformer.h:
        assert isinstance(block, Block)
        q, k, _ = block.attn.c_attn(block.ln_1(x)).view(B, T, 3, gpt.n_head, -1).permute(2, 0, 3, 1, 4)  # (B, H, T, K)
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        yield scores.masked_fill(later, -math.inf).softmax(-1)
        x = block(x, B, None, 0)
