"""The GPT, read top to bottom: embed tokens and positions, pass them through blocks, score every next token.

Parameters are a nested dict of float32 arrays whose paths, joined with dots, are GPT-2's names (see
`valyrian_jax.bundle.parameter_shapes`). References: Radford et al. 2019 (GPT-2); Vaswani et al. 2017 (attention).

Sizes: B rows, T tokens, S keys, D width, H heads, K width of a head (D = H K), V vocabulary, L layers.
Flax stays in this file and `valyrian_jax.layers`, which has the layers; callers see pure functions.
"""

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from valyrian_jax.bundle import Tensors, parameter_shapes
from valyrian_jax.config import ModelConfig
from valyrian_jax.layers import LayerNorm, Linear, Matrix, at_least_float32, dropout, matmul

Params = dict[str, Any]  # a nested dict of float32 arrays


class Cache(NamedTuple):
    """Keys and values of the tokens seen so far, of every layer; what lies past `length` is not used."""

    keys: tuple[Float[Array, "B H S K"], ...]
    values: tuple[Float[Array, "B H S K"], ...]
    length: Int[Array, ""]


@functools.partial(jax.jit, static_argnames="config")
def init_params(config: ModelConfig, key: PRNGKeyArray) -> Params:
    """Draw initial weights: normal(0, init_std), biases 0; residual projections over sqrt(2 L), as in GPT-2.

    A token embedding that is not also the head is drawn four times as wide (configs/README.md has what that gave).
    """
    shapes = dict(sorted(parameter_shapes(config).items()))
    # One draw for all, because a program with one generator compiles sooner than one with a generator for every weight.
    sizes = [math.prod(shape) for shape in shapes.values()]
    drawn = jnp.split(jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes[:-1]))
    params = {}
    for (name, shape), numbers in zip(shapes.items(), drawn, strict=True):
        if name.endswith(".bias"):
            params[name] = jnp.zeros(shape)
        elif ".ln_" in name:
            params[name] = jnp.ones(shape)
        else:
            params[name] = numbers.reshape(shape) * init_std(name, config)
    return unflatten_dict(params, sep=".")


def init_std(name: str, config: ModelConfig) -> float:
    """The standard deviation that a matrix is drawn with."""
    if name.endswith("c_proj.weight"):
        return config.init_std / math.sqrt(2 * config.n_layer)
    if name == "transformer.wte.weight" and not config.tie_word_embeddings:
        return 4 * config.init_std
    return config.init_std


def forward(
    params: Params, tokens: Int[Array, "B T"], config: ModelConfig, dropout_key: PRNGKeyArray | None = None
) -> Float[Array, "B T V"]:
    """Logits of every next token, T <= n_positions.

    Args:
        params: as from `init_params`. Activations and products have their type (float32, bfloat16, float64); norms
            and softmax have at least float32.
        tokens: token ids.
        config: the model's shape.
        dropout_key: drop with this key (training); None: no dropout (evaluation).
    """
    logits, _ = GPT(config).apply({"params": params}, tokens, None, dropout_key)
    return logits


def forward_cached(
    params: Params, tokens: Int[Array, "B T"], config: ModelConfig, cache: Cache
) -> tuple[Float[Array, "B T V"], Cache]:
    """Logits of tokens that follow those in the cache, and the cache with them; length + T <= n_positions."""
    logits, cache = GPT(config).apply({"params": params}, tokens, cache, None)
    return logits, cache


def activations(params: Params, tokens: Int[Array, "B T"], config: ModelConfig) -> dict[str, Float[Array, "B T _"]]:
    """What every stage of `forward` gives, by name and in order: embedding, h.0 and on, ln_f, logits."""
    (logits, _), seen = GPT(config).apply(
        {"params": params}, tokens, None, None, capture_intermediates=True, mutable=["intermediates"]
    )
    stages = seen["intermediates"]["transformer"]
    blocks = {f"h.{i}": stages["h"][str(i)]["__call__"][0][0] for i in range(config.n_layer)}
    return {"embedding": stages["embedding"][0], **blocks, "ln_f": stages["ln_f"]["__call__"][0], "logits": logits}


@functools.partial(jax.jit, static_argnames="config")
def attention(params: Params, tokens: Int[Array, "B T"], config: ModelConfig) -> Float[Array, "L B H T T"]:
    """Where each token looks: the weights of every head in `forward`; those of one query [l, b, h, t] sum to 1."""
    _, seen = GPT(config).apply({"params": params}, tokens, None, None, mutable=["intermediates"])
    blocks = seen["intermediates"]["transformer"]["h"]
    return jnp.stack([blocks[str(layer)]["attn"]["weights"][0] for layer in range(config.n_layer)])


def empty_cache(config: ModelConfig, rows: int) -> Cache:
    """A cache with room for n_positions tokens in each of B rows."""
    shape = (rows, config.n_head, config.n_positions, config.n_embd // config.n_head)
    keys, values = (tuple(jnp.zeros(shape) for _ in range(config.n_layer)) for _ in range(2))
    return Cache(keys, values, jnp.zeros((), jnp.int32))


def to_tensors(params: Params) -> Tensors:
    """Parameters under their flat names, as NumPy arrays."""
    return {name: np.asarray(array) for name, array in flatten_dict(params, sep=".").items()}


def from_tensors(tensors: Tensors) -> Params:
    """The inverse of `to_tensors`, of whatever floating-point type they are."""
    return unflatten_dict({name: jnp.asarray(array) for name, array in tensors.items()}, sep=".")


class GPT(nn.Module):
    """The transformer and, unless it is tied to the token embedding, the head."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B T"], cache: Cache | None, dropout_key: PRNGKeyArray | None
    ) -> tuple[Float[Array, "B T V"], Cache | None]:
        c = self.config
        x, wte, cache = Transformer(c, name="transformer")(tokens, cache, dropout_key)
        head = wte if c.tie_word_embeddings else Matrix(c.vocab_size, c.n_embd, name="lm_head")()
        return matmul(x, head.T), cache


class Transformer(nn.Module):
    """Embeddings, blocks, final norm; also gives back the token embedding, for a tied head."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B T"], cache: Cache | None, dropout_key: PRNGKeyArray | None
    ) -> tuple[Float[Array, "B T D"], Float[Array, "V D"], Cache | None]:
        c = self.config
        T = tokens.shape[1]
        start = 0 if cache is None else cache.length
        wte = Matrix(c.vocab_size, c.n_embd, name="wte")()
        wpe = Matrix(c.n_positions, c.n_embd, name="wpe")()
        x = wte[tokens] + jax.lax.dynamic_slice_in_dim(wpe, start, T)
        self.sow("intermediates", "embedding", x)  # kept only where `activations` asks for it
        x = dropout(x, c.dropout, _fold(dropout_key, c.n_layer))
        x, cache = Blocks(c, name="h")(x, cache, dropout_key)
        return LayerNorm(c.layer_norm_epsilon, name="ln_f")(x), wte, cache


class Blocks(nn.Module):
    """The stack of blocks (a module for the sake of its name, "h"), each with its own slice of the cache."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], cache: Cache | None, dropout_key: PRNGKeyArray | None
    ) -> tuple[Float[Array, "B T D"], Cache | None]:
        new = []
        for layer in range(self.config.n_layer):
            past = None if cache is None else (cache.keys[layer], cache.values[layer], cache.length)
            x, kv = Block(self.config, name=str(layer))(x, past, _fold(dropout_key, layer))
            new.append(kv)
        if cache is None:
            return x, None
        keys, values = zip(*new, strict=True)
        return x, Cache(keys, values, cache.length + x.shape[1])


Past = tuple[Float[Array, "B H S K"], Float[Array, "B H S K"], Int[Array, ""]]
KeysValues = tuple[Float[Array, "B H S K"], Float[Array, "B H S K"]]


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)): pre-LayerNorm (Xiong et al. 2020)."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], past: Past | None, dropout_key: PRNGKeyArray | None
    ) -> tuple[Float[Array, "B T D"], KeysValues]:
        c = self.config
        normed = LayerNorm(c.layer_norm_epsilon, name="ln_1")(x)
        attended, kv = Attention(c, name="attn")(normed, past, _fold(dropout_key, 0))
        x = x + dropout(attended, c.dropout, _fold(dropout_key, 1))
        widened = MLP(c, name="mlp")(LayerNorm(c.layer_norm_epsilon, name="ln_2")(x))
        return x + dropout(widened, c.dropout, _fold(dropout_key, 2)), kv


class Attention(nn.Module):
    """Causal multi-head attention: every token looks at itself and at what stands before it."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], past: Past | None, dropout_key: PRNGKeyArray | None
    ) -> tuple[Float[Array, "B T D"], KeysValues]:
        c = self.config
        B, T, D = x.shape
        H, K = c.n_head, D // c.n_head
        qkv = Linear(3 * D, name="c_attn")(x)  # (B, T, 3 D)
        q, k, v = (part.reshape(B, T, H, K).swapaxes(1, 2) for part in jnp.split(qkv, 3, axis=-1))  # (B, H, T, K) each
        start: Int[Array, ""] | int = 0
        if past is not None:
            past_keys, past_values, start = past
            k = jax.lax.dynamic_update_slice_in_dim(past_keys, k, start, axis=2)  # (B, H, S, K)
            v = jax.lax.dynamic_update_slice_in_dim(past_values, v, start, axis=2)  # (B, H, S, K)
        scores = at_least_float32(jnp.einsum("bhtk,bhsk->bhts", q, k)) / math.sqrt(K)
        scores = jnp.where(causal_mask(T, k.shape[2], start), scores, -jnp.inf)
        weights = jax.nn.softmax(scores, axis=-1).astype(x.dtype)  # (B, H, T, S)
        self.sow("intermediates", "weights", weights)  # kept only where `attention` asks for it
        weights = dropout(weights, c.dropout, _fold(dropout_key, 0))
        mixed = jnp.einsum("bhts,bhsk->bthk", weights, v).reshape(B, T, D)
        return Linear(D, name="c_proj")(mixed), (k, v)


class MLP(nn.Module):
    """Widen four times, GELU, and back."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        c = self.config
        x = Linear(4 * c.n_embd, name="c_fc")(x)  # (B, T, 4 D)
        x = jax.nn.gelu(x, approximate=c.activation == "gelu_new")
        return Linear(c.n_embd, name="c_proj")(x)


def causal_mask(T: int, S: int, start: Int[Array, ""] | int) -> Bool[Array, "T S"]:
    """True where query t, which stands at start + t, may look at key s."""
    return start + jnp.arange(T)[:, None] >= jnp.arange(S)[None, :]


def _fold(key: PRNGKeyArray | None, data: int) -> PRNGKeyArray | None:
    """A key of its own for every place that drops."""
    return None if key is None else jax.random.fold_in(key, data)
