"""The GPT in PyTorch, scriptable: the same function of the same weights as `valyrian_jax.model.gpt`, without dropout.

Parameters have GPT-2's names and layout, matrices [in, out], as in a bundle: nothing is transposed on the way here, and
one row times such a matrix is also quicker than times its transpose. Sizes: B rows, T tokens, S keys, D width, H heads,
K width of a head (D = H K), V vocabulary, L layers. Between the embedding and the head rows and tokens are one axis.
"""

import math
from collections.abc import Iterator
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from valyrian_jax.bundle.bundle import Bundle, check_bundle
from valyrian_jax.bundle.names import Tensors
from valyrian_jax.config import ModelConfig


class GPT(nn.Module):
    """The transformer and its head, which is the token embedding if the two are tied."""

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
        """Logits [B, T, V] of every next token after int64 tokens [B, T], T <= n_positions."""
        return self.score(
            self.transformer(tokens, None, 0).view(tokens.shape[0], tokens.shape[1], -1)
        )

    def read(self, tokens: Tensor, cache: Tensor, start: int) -> Tensor:
        """Logits [B, V] after tokens [B, T] that stand at positions from `start` on; their keys and values go into
        `cache`, which holds those of the positions before; start + T <= n_positions.
        """
        states = self.transformer(tokens, cache, start).view(tokens.shape[0], tokens.shape[1], -1)
        return self.score(states.select(1, -1))

    def score(self, states: Tensor) -> Tensor:
        """Logits [..., V] from normed states [..., D]."""
        if self.tied:
            return F.linear(states, self.transformer.wte.weight)
        else:  # noqa: RET505 (TorchScript leaves out a branch, but not what follows a return)
            return F.linear(states, self.lm_head.weight)

    def empty_cache(self, rows: int, length: int) -> Tensor:
        """Room for the keys and values of `length` tokens in each of B rows: [L, 2, B, H, length, K]."""
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
        """Normed states [B T, D]."""
        x, B = self.embed(tokens, start), tokens.shape[0]
        for layer, block in enumerate(self.h):
            x = block(x, B, None if cache is None else cache[layer], start)
        return self.ln_f(x)

    def embed(self, tokens: Tensor, start: int) -> Tensor:
        """Token plus position, [B T, D]."""
        B, T = tokens.shape
        return (F.embedding(tokens, self.wte.weight) + self.wpe.weight.narrow(0, start, T)).view(
            B * T, -1
        )


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, B: int, past: Tensor | None, start: int) -> Tensor:
        """States [B T, D] to states [B T, D]."""
        x = x + self.attn(self.ln_1(x), B, past, start)
        return x + self.mlp(self.ln_2(x))


class Attention(nn.Module):
    """Causal multi-head attention, over the cache too if there is one."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = Linear(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, B: int, past: Tensor | None, start: int) -> Tensor:
        """States [B T, D] to states [B T, D]; past: keys and values [2, B, H, n_positions, K]."""
        T, D = x.shape[0] // B, x.shape[1]
        H, K = self.n_head, D // self.n_head
        qkv = self.c_attn(x).view(B, T, 3, H, K).permute(2, 0, 3, 1, 4)  # (3, B, H, T, K)
        kv = qkv.narrow(0, 1, 2)
        if past is not None:  # narrow, because TorchScript slices once for every axis named
            past.narrow(3, start, T).copy_(kv)
            kv = past.narrow(3, 0, start + T)  # (2, B, H, S, K)
        mask: Tensor | None = None
        if T > 1 and start > 0:
            mask = torch.ones(T, start + T, dtype=torch.bool, device=x.device).tril(start)
        causal = True if start == 0 else False  # noqa: SIM210 (torch.export must decide it)
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
        """States [B T, D] to states [B T, D]."""
        return self.c_proj(F.gelu(self.c_fc(x), approximate=self.approximate))


class Linear(nn.Module):
    """x @ weight + bias, weight [in, out]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.empty(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[N, in] to [N, out]."""
        # Not addmm: TorchScript takes it apart, and would round otherwise than the module it was made of.
        return torch.mm(x, self.weight) + self.bias


class Embedding(nn.Module):
    """A bare weight [rows, columns]: an embedding table or the head."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns))


def attention_weights(gpt: GPT, tokens: Tensor) -> Iterator[Tensor]:
    """How much every token of tokens [B, T], T <= n_positions, looks at every other; rows sum to 1.

    Yields:
        [B, H, T, T], of query and key, for every layer. (All at once are gigabytes where the context is long.)
    """
    B, T = tokens.shape
    later = torch.ones(T, T, dtype=torch.bool, device=tokens.device).triu(1)
    x = gpt.transformer.embed(tokens, 0)  # (B T, D)
    for block in gpt.transformer.h:
        assert isinstance(block, Block)
        q, k, _ = (
            block.attn.c_attn(block.ln_1(x)).view(B, T, 3, gpt.n_head, -1).permute(2, 0, 3, 1, 4)
        )  # (B, H, T, K)
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        yield scores.masked_fill(later, -math.inf).softmax(-1)
        x = block(x, B, None, 0)


def to_module(source: Bundle) -> GPT:
    """A module with the weights of a bundle, ready for use: evaluation mode, no gradients.

    Raises:
        UserError: the weights do not fit the model; all names in one line.
    """
    check_bundle(source.model, source.tensors)
    with torch.device("meta"):  # the module's own weights take neither memory nor time
        module = GPT(source.model)
    parameters = {name: torch.tensor(tensor) for name, tensor in source.tensors.items()}
    module.load_state_dict(parameters, strict=True, assign=True)
    return module.eval().requires_grad_(False)


def to_tensors(module: GPT, config: ModelConfig) -> Tensors:
    """The inverse: the module's weights under the names of a bundle, float32.

    Raises:
        UserError: the module does not fit the configuration; all names in one line.
    """
    tensors = {
        name: tensor.detach().float().cpu().numpy() for name, tensor in module.state_dict().items()
    }
    check_bundle(config, tensors)
    return tensors
