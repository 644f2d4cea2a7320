"""The GPT as a scriptable PyTorch module: `valyrian_jax.model.gpt` without dropout.

Parameters have GPT-2's names and layout, matrices [in, out], so loading a bundle transposes
nothing. One row times such a matrix is also faster than one row times its transpose.

Sizes: B rows, T tokens, S keys, D width, H heads, K width of a head (D = H K), V vocabulary,
L layers. Between the embedding and the head, rows and tokens are one axis.
"""

import math
from collections.abc import Iterator
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bridge.torch_settings import pin_torch_settings
from valyrian_jax.bundle.bundle import Bundle, check_bundle
from valyrian_jax.bundle.names import Tensors
from valyrian_jax.config import ModelConfig


class GPT(nn.Module):
    """The transformer and its head; the head of a tied model is the token embedding."""

    tied: Final[bool]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_positions = config.n_positions
        self.n_head = config.n_head
        self.tied = config.tie_word_embeddings
        self.transformer = Transformer(config)
        if not self.tied:
            self.lm_head = Embedding(config.vocab_size, config.n_embd)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits [B, T, V] for int64 tokens [B, T], T <= n_positions."""
        states = self.transformer(tokens, None, 0).view(tokens.shape[0], tokens.shape[1], -1)
        return self.unembed(states)

    def forward_cached(self, tokens: Tensor, cache: Tensor, start: int) -> Tensor:
        """Return the logits [B, V] after tokens [B, T]; write their keys and values into the cache.

        Args:
            tokens: Token ids at the positions from `start` on; start + T <= n_positions.
            cache: Keys and values of the positions before `start`, with room for T more.
            start: Position of the first token.
        """
        states = self.transformer(tokens, cache, start).view(tokens.shape[0], tokens.shape[1], -1)
        return self.unembed(states.select(1, -1))

    def unembed(self, states: Tensor) -> Tensor:
        """Return the logits [..., V] of normed states [..., D]."""
        if self.tied:
            return F.linear(states, self.transformer.wte.weight)
        else:  # noqa: RET505 (TorchScript skips a dead branch, but not code after a return)
            return F.linear(states, self.lm_head.weight)

    def make_cache(self, rows: int, length: int) -> Tensor:
        """Return zeros for the keys and values of B rows: [L, 2, B, H, length, K]."""
        wte = self.transformer.wte.weight
        shape = [len(self.transformer.h), 2, rows, self.n_head, length, wte.shape[1] // self.n_head]
        return torch.zeros(shape, dtype=wte.dtype, device=wte.device)


class Transformer(nn.Module):
    """Embeddings, blocks, final norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        D = config.n_embd
        self.wte = Embedding(config.vocab_size, D)
        self.wpe = Embedding(config.n_positions, D)
        self.h = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(D, config.layer_norm_epsilon)

    def forward(self, tokens: Tensor, cache: Tensor | None, start: int) -> Tensor:
        """Return the normed states [B T, D] of tokens [B, T] at the positions from `start` on."""
        x, B = self.embed(tokens, start), tokens.shape[0]
        for layer, block in enumerate(self.h):
            x = block(x, B, None if cache is None else cache[layer], start)
        return self.ln_f(x)

    def embed(self, tokens: Tensor, start: int) -> Tensor:
        """Return the sum of the token and position embeddings, [B T, D]."""
        B, T = tokens.shape
        positions = self.wpe.weight.narrow(0, start, T)
        return (F.embedding(tokens, self.wte.weight) + positions).view(B * T, -1)


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, B: int, past: Tensor | None, start: int) -> Tensor:
        """Map states [B T, D] to states [B T, D]."""
        x = x + self.attn(self.ln_1(x), B, past, start)
        return x + self.mlp(self.ln_2(x))


class Attention(nn.Module):
    """Causal multi-head attention, with an optional cache."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = Linear(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, B: int, past: Tensor | None, start: int) -> Tensor:
        """Map states [B T, D] to states [B T, D]; past: keys, values [2, B, H, n_positions, K]."""
        T, D = x.shape[0] // B, x.shape[1]
        H, K = self.n_head, D // self.n_head
        qkv = self.c_attn(x).view(B, T, 3, H, K).permute(2, 0, 3, 1, 4)  # (3, B, H, T, K)
        kv = qkv.narrow(0, 1, 2)
        if past is not None:  # narrow: TorchScript would slice every indexed axis in turn
            past.narrow(3, start, T).copy_(kv)
            kv = past.narrow(3, 0, start + T)  # (2, B, H, S, K)
        mask: Tensor | None = None
        if T > 1 and start > 0:
            mask = torch.ones(T, start + T, dtype=torch.bool, device=x.device).tril(start)
        causal = True if start == 0 else False  # noqa: SIM210 (torch.export needs a constant)
        mixed = F.scaled_dot_product_attention(
            qkv[0], kv[0], kv[1], attn_mask=mask, is_causal=causal
        )  # (B, H, T, K)
        return self.c_proj(mixed.transpose(1, 2).reshape(B * T, D))


class MLP(nn.Module):
    """Widen four times, GELU, and back."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.approximate = "tanh" if config.activation == "gelu_new" else "none"
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        """Map states [B T, D] to states [B T, D]."""
        return self.c_proj(F.gelu(self.c_fc(x), approximate=self.approximate))


class Linear(nn.Module):
    """x @ weight + bias, weight [in, out]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.empty(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in] to [N, out]."""
        # Not addmm: TorchScript splits it in two, which rounds differently from the eager module.
        return torch.mm(x, self.weight) + self.bias


class Embedding(nn.Module):
    """A bare weight [rows, columns]: an embedding table or the head."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns))


def attention_weights(gpt: GPT, tokens: Tensor) -> Iterator[Tensor]:
    """Yield the attention weights of each layer for tokens [B, T], T <= n_positions.

    Layers are separate because with a long context all of them together take gigabytes.

    Yields:
        Weights [B, H, T, T] of every query and key; the weights of a query sum to 1.
    """
    B, T = tokens.shape
    future = torch.ones(T, T, dtype=torch.bool, device=tokens.device).triu(1)
    x = gpt.transformer.embed(tokens, 0)  # (B T, D)
    for block in gpt.transformer.h:
        assert isinstance(block, Block)
        qkv = block.attn.c_attn(block.ln_1(x)).view(B, T, 3, gpt.n_head, -1)
        q, k, _ = qkv.permute(2, 0, 3, 1, 4)  # (B, H, T, K)
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        yield scores.masked_fill(future, -math.inf).softmax(-1)
        x = block(x, B, None, 0)


def lens_logits(gpt: GPT, tokens: Tensor, first: int = 0) -> Iterator[Tensor]:
    """Yield the logits that the head reads after the embedding and after each block.

    The last are those of `gpt(tokens)`; see `valyrian_jax.inspection.logit_lens`.

    Args:
        gpt: Model.
        tokens: Token ids [B, T], T <= n_positions.
        first: Position of the first token whose logits are computed.

    Yields:
        Logits [B, T - first, V].
    """
    B, T = tokens.shape
    x = gpt.transformer.embed(tokens, 0)  # (B T, D)
    yield gpt.unembed(gpt.transformer.ln_f(x.view(B, T, -1)[:, first:]))
    for block in gpt.transformer.h:
        x = block(x, B, None, 0)
        yield gpt.unembed(gpt.transformer.ln_f(x.view(B, T, -1)[:, first:]))


@pin_torch_settings()
def to_module(bundle: Bundle) -> GPT:
    """Return a module with the weights of a bundle, in evaluation mode and without gradients.

    Raises:
        UserError: The weights do not fit the model; the message lists all problems in one line.
    """
    check_bundle(bundle.model, bundle.tensors)
    with torch.device("meta"):  # no memory and no time for weights that are replaced at once
        module = GPT(bundle.model)
    parameters = {name: torch.tensor(tensor) for name, tensor in bundle.tensors.items()}
    module.load_state_dict(parameters, strict=True, assign=True)
    return module.eval().requires_grad_(False)


def to_tensors(module: GPT, config: ModelConfig) -> Tensors:
    """Return the weights of a module as float32 arrays with a bundle's names; undoes `to_module`.

    Raises:
        UserError: The module does not fit the configuration; the message lists all problems.
    """
    tensors = {
        name: tensor.detach().float().cpu().numpy() for name, tensor in module.state_dict().items()
    }
    check_bundle(config, tensors)
    return tensors
