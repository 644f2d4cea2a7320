"""The GPT as a scriptable PyTorch module: `valyrian_jax.model.gpt` without dropout.

Parameters have GPT-2's names and layout, matrices [in, out], so loading a bundle transposes
nothing. One row times such a matrix is also faster than one row times its transpose.

Sizes: B rows, T tokens, S keys, D width, H heads, K width of a head (D = H K), V vocabulary,
L layers. Between the embedding and the logits, rows and tokens are one axis.
"""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bridge.torch_settings import pin_torch_settings
from valyrian_jax.bundle.bundle import Bundle, check_bundle
from valyrian_jax.bundle.names import Tensors
from valyrian_jax.config import ModelConfig


class GPT(nn.Module):
    """The transformer and the output matrix, which may be the token embedding itself."""

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
        states = self.transformer(tokens, None, 0, None)
        return self.unembed(states.view(tokens.shape[0], tokens.shape[1], -1))

    def forward_cached(self, tokens: Tensor, cache: Tensor, start: int) -> Tensor:
        """Return the logits [B, V] after tokens [B, T]; write their keys and values into the cache.

        The tokens are at the positions from `start` on. The cache has those before, and room for T
        more.
        """
        states = self.transformer(tokens, cache, start, None)
        return self.unembed(states.view(tokens.shape[0], tokens.shape[1], -1).select(1, -1))

    def forward_rows(self, tokens: Tensor, cache: Tensor, positions: list[int]) -> Tensor:
        """Return the logits [B, V] after tokens [B, 1], each at its own position.

        Like `forward_cached`, for rows that have read different numbers of tokens.
        """
        indices = torch.tensor(positions, dtype=torch.int64, device=tokens.device)
        return self.unembed(self.transformer(tokens, cache, max(positions), indices))

    def forward_windows(self, tokens: Tensor, cache: Tensor, lengths: list[int]) -> Tensor:
        """Return the logits [B, V] after the first lengths[b] of tokens [B, T].

        Keys and values of all T tokens are written into the cache; the caller ignores those of the
        padding.
        """
        B, T = tokens.shape
        states = self.transformer(tokens, cache, 0, None).view(B * T, -1)
        last = torch.arange(B, device=tokens.device) * T - 1
        last = last + torch.tensor(lengths, dtype=torch.int64, device=tokens.device)
        return self.unembed(states.index_select(0, last))

    def unembed(self, states: Tensor) -> Tensor:
        """Return the logits [..., V] of normed states [..., D]."""
        if self.tied:  # noqa: SIM108 (TorchScript skips a dead branch)
            weight = self.transformer.wte.weight
        else:
            weight = self.lm_head.weight
        logits = F.linear(states, weight)
        if is_rounded(logits, states):
            logits = F.linear(states.double(), weight.double()).to(states.dtype)
        return logits

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

    def forward(
        self, tokens: Tensor, cache: Tensor | None, start: int, positions: Tensor | None
    ) -> Tensor:
        """Return the normed states [B T, D] of tokens [B, T] at the positions from `start` on.

        Where the positions of rows differ, int64 [B], T is 1 and `start` the largest of them.
        """
        x, B = self.embed(tokens, start, positions), tokens.shape[0]
        for layer, block in enumerate(self.h):
            x = block(x, B, None if cache is None else cache[layer], start, positions)
        return self.ln_f(x)

    def embed(self, tokens: Tensor, start: int, positions: Tensor | None) -> Tensor:
        """Return the sum of the token and position embeddings, [B T, D]."""
        B, T = tokens.shape
        if positions is None:
            embedded = self.wpe.weight.narrow(0, start, T)
        else:
            embedded = F.embedding(positions.unsqueeze(1), self.wpe.weight)
        return (F.embedding(tokens, self.wte.weight) + embedded).view(B * T, -1)


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(
        self, x: Tensor, B: int, past: Tensor | None, start: int, positions: Tensor | None
    ) -> Tensor:
        """Map states [B T, D] to states [B T, D]."""
        x = x + self.attn(self.ln_1(x), B, past, start, positions)
        return x + self.mlp(self.ln_2(x))


class Attention(nn.Module):
    """Causal multi-head attention, with an optional cache."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = Linear(config.n_embd, config.n_embd)

    def forward(
        self, x: Tensor, B: int, past: Tensor | None, start: int, positions: Tensor | None
    ) -> Tensor:
        """Map states [B T, D] to states [B T, D]; past: keys, values [2, B, H, n_positions, K]."""
        T, D = x.shape[0] // B, x.shape[1]
        H, K = self.n_head, D // self.n_head
        qkv = self.c_attn(x).view(B, T, 3, H, K).permute(2, 0, 3, 1, 4)  # (3, B, H, T, K)
        kv = qkv.narrow(0, 1, 2)
        if past is not None:  # narrow: TorchScript would slice every indexed axis in turn
            if positions is None:
                past.narrow(3, start, T).copy_(kv)
            else:
                past.scatter_(3, positions.view(1, B, 1, 1, 1).expand_as(kv), kv)
            kv = past.narrow(3, 0, start + T)  # (2, B, H, S, K)
        mask: Tensor | None = None
        if positions is not None:
            keys = torch.arange(start + T, device=x.device)
            mask = (keys <= positions.unsqueeze(1)).view(B, 1, 1, start + T)
        elif T > 1 and start > 0:
            mask = torch.ones(T, start + T, dtype=torch.bool, device=x.device).tril(start)
        causal = True if start == 0 and mask is None else False  # noqa: SIM210 (torch.export)
        mixed = F.scaled_dot_product_attention(
            qkv[0], kv[0], kv[1], attn_mask=mask, is_causal=causal
        )  # (B, H, T, K)
        if is_rounded(mixed, x):
            qkv, kv = qkv.double(), kv.double()
            mixed = F.scaled_dot_product_attention(
                qkv[0], kv[0], kv[1], attn_mask=mask, is_causal=causal
            ).to(x.dtype)
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
        return multiply(x, self.weight) + self.bias


class Embedding(nn.Module):
    """A bare weight [rows, columns]: an embedding table or the output matrix."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns))


def multiply(x: Tensor, weight: Tensor) -> Tensor:
    """Return x @ weight, [N, in] times [in, out]."""
    product = torch.mm(x, weight)
    if is_rounded(product, x):
        product = torch.mm(x.double(), weight.double()).to(x.dtype)
    return product


def is_rounded(result: Tensor, x: Tensor) -> bool:
    """Return whether `torch.autocast` has rounded a product of x in a TorchScript file.

    A file must give the same text everywhere, but TorchScript cannot turn autocast off. Autocast
    leaves float64 alone, so the caller repeats the product in float64. In Python, autocast works as
    in any module.
    """
    is_in_file = torch.jit.is_scripting()
    return is_in_file and result.dtype != x.dtype


@pin_torch_settings()
def to_module(bundle: Bundle) -> GPT:
    """Return a module with the weights of a bundle, in evaluation mode and without gradients."""
    check_bundle(bundle.model, bundle.tensors)
    with torch.device("meta"):  # Allocate nothing for weights that are replaced at once.
        module = GPT(bundle.model)
    parameters = {name: torch.tensor(tensor) for name, tensor in bundle.tensors.items()}
    module.load_state_dict(parameters, strict=True, assign=True)
    return module.eval().requires_grad_(False)


def to_tensors(module: GPT, config: ModelConfig) -> Tensors:
    """Return a module's weights as float32 arrays with a bundle's names; undo `to_module`."""
    tensors = {
        name: tensor.detach().float().cpu().numpy() for name, tensor in module.state_dict().items()
    }
    check_bundle(config, tensors)
    return tensors
