"""Views into the PyTorch model: attention weights and the logit lens."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from bridge.generator import Generator
from bridge.gpt import GPT, Block
from bridge.torch_settings import pin_torch_settings
from valyrian_jax.bundle.lens import Lens, make_lens
from valyrian_jax.bundle.text_generation import NOT_FINITE, window_start
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer

MAX_COLUMNS = 48  # tokens of a lens


def attention_weights(gpt: GPT, tokens: Tensor) -> Iterator[Tensor]:
    """Yield the attention weights [B, H, T, T] of each layer for tokens [B, T].

    Layers are separate because with a long context all of them together take gigabytes.
    """
    B, T = tokens.shape
    future = torch.ones(T, T, dtype=torch.bool, device=tokens.device).triu(1)
    x = gpt.transformer.embed(tokens, 0, None)  # (B T, D)
    for block in gpt.transformer.h:
        assert isinstance(block, Block)
        qkv = block.attn.c_attn(block.ln_1(x)).view(B, T, 3, gpt.n_head, -1)
        q, k, _ = qkv.permute(2, 0, 3, 1, 4)  # (B, H, T, K)
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        yield scores.masked_fill(future, -math.inf).softmax(-1)
        x = block(x, B, None, 0, None)


def lens_logits(gpt: GPT, tokens: Tensor, first: int = 0) -> Iterator[Tensor]:
    """Yield the logits [B, T - first, V] that the output matrix reads after each block.

    The first logits are those after the embedding, and the last are those of `gpt(tokens)`. Tokens
    [B, T] before index `first` are only context. See `valyrian_jax.inspection.logit_lens`.
    """
    B, T = tokens.shape
    x = gpt.transformer.embed(tokens, 0, None)  # (B T, D)
    yield gpt.unembed(gpt.transformer.ln_f(x.view(B, T, -1)[:, first:]))
    for block in gpt.transformer.h:
        x = block(x, B, None, 0, None)
        yield gpt.unembed(gpt.transformer.ln_f(x.view(B, T, -1)[:, first:]))


@pin_torch_settings()
def lens_table(
    generator: Generator, tokenizer: Tokenizer, tokens: Sequence[int]
) -> tuple[int, Lens]:
    """Return the logit lens of the last tokens, at most `MAX_COLUMNS` of them.

    Returns:
        The index of the first of these tokens, and what every layer predicts after each.
    """
    start = window_start(len(tokens), generator.gpt.n_positions)
    first = max(start, len(tokens) - MAX_COLUMNS)
    layers = lens_logits(generator.gpt, torch.tensor([tokens[start:]]), first - start)
    arrays = (logits[0].float().cpu().numpy() for logits in layers)
    return first, make_lens(tokenizer, tokens[first:], arrays, top=1)


@pin_torch_settings()
def attention_row(generator: Generator, tokens: Sequence[int]) -> tuple[int, Tensor]:
    """Return the attention of the last token to the tokens of its window.

    Returns:
        The index of the first token in the window, and the weights [L, H, T].

    Raises:
        UserError: The weights are not finite.
    """
    start = window_start(len(tokens), generator.gpt.n_positions)
    layers = attention_weights(generator.gpt, torch.tensor([tokens[start:]]))
    row = torch.stack([weights[0, :, -1] for weights in layers])
    if not row.isfinite().all():
        raise UserError(NOT_FINITE)
    return start, row
