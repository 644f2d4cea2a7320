"""The GPT, read top to bottom: embed tokens and positions, pass them through blocks, score every next token.

Parameters are a nested dict of float32 arrays whose paths, joined with dots, are GPT-2's names (see
`valyrian_jax.bundle.names.parameter_shapes`). References: Radford et al. 2019 (GPT-2); Vaswani et al. 2017 (attention).

Sizes: B rows, T tokens, N = B T, S keys, D width, H heads, K width of a head (D = H K), V vocabulary (rows of
the token table), L layers. Between the embedding and the logits rows and tokens are one axis, because XLA on a GPU
would otherwise choose a layout for [B, T, D] that every LayerNorm must transpose.
Flax stays in this file and `valyrian_jax.model.layers`, which has the layers; callers see pure functions.
"""

import functools
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from valyrian_jax.bundle.names import axis_sizes
from valyrian_jax.config import ModelConfig
from valyrian_jax.model import sharding
from valyrian_jax.model.compute_options import DEFAULT_OPTIONS, ComputeOptions
from valyrian_jax.model.layers import Embedding, LayerNorm, Linear, at_least_float32, dropout
from valyrian_jax.model.parameters import (
    Params,
    mask_padding,
)


class Cache(NamedTuple):
    """Keys and values of the tokens seen so far, of every layer; what lies past `length` is not used."""

    keys: tuple[Float[Array, "B H S K"], ...]
    values: tuple[Float[Array, "B H S K"], ...]
    length: Int[Array, ""]


def forward(
    params: Params,
    tokens: Int[Array, "B T"],
    config: ModelConfig,
    dropout_key: PRNGKeyArray | None = None,
    how: ComputeOptions = DEFAULT_OPTIONS,
) -> Float[Array, "B T V"]:
    """Logits of every next token, T <= n_positions.

    Args:
        params: as from `init_params`. Activations and products have their type (float32, bfloat16, float64); norms
            and softmax have at least float32.
        tokens: token ids.
        config: the model's shape.
        dropout_key: drop with this key (training); None: no dropout (evaluation).
        how: ways to compute that change no value beyond rounding.
    """
    logits, _ = GPT(config, how).apply({"params": params}, tokens, None, dropout_key)
    return logits


def forward_cached(
    params: Params, tokens: Int[Array, "B T"], config: ModelConfig, cache: Cache
) -> tuple[Float[Array, "B T V"], Cache]:
    """Logits of tokens that follow those in the cache, and the cache with them; length + T <= n_positions."""
    logits, cache = GPT(config).apply({"params": params}, tokens, cache, None)
    return logits, cache


def activations(
    params: Params, tokens: Int[Array, "B T"], config: ModelConfig
) -> dict[str, Float[Array, "B T _"]]:
    """What every stage of `forward` gives, by name and in order: embedding, h.0 and on, ln_f, logits."""
    (logits, _), seen = GPT(config).apply(
        {"params": params},
        tokens,
        None,
        None,
        capture_intermediates=True,
        mutable=["intermediates"],
    )
    stages = seen["intermediates"]["transformer"]
    blocks = {f"h.{i}": stages["h"][str(i)]["__call__"][0][0] for i in range(config.n_layer)}
    states = {"embedding": stages["embedding"][0], **blocks, "ln_f": stages["ln_f"]["__call__"][0]}
    return {name: array.reshape(*tokens.shape, -1) for name, array in states.items()} | {
        "logits": logits
    }


@functools.partial(jax.jit, static_argnames="config")
def attention_weights(
    params: Params, tokens: Int[Array, "B T"], config: ModelConfig
) -> Float[Array, "L B H T T"]:
    """Where each token looks: the weights of every head in `forward`; those of one query [l, b, h, t] sum to 1."""
    _, seen = GPT(config).apply({"params": params}, tokens, None, None, mutable=["intermediates"])
    blocks = seen["intermediates"]["transformer"]["h"]
    return jnp.stack([blocks[str(layer)]["attn"]["weights"][0] for layer in range(config.n_layer)])


def empty_cache(config: ModelConfig, rows: int) -> Cache:
    """A cache with room for n_positions tokens in each of B rows."""
    shape = (rows, config.n_head, config.n_positions, config.n_embd // config.n_head)
    keys, values = (tuple(jnp.zeros(shape) for _ in range(config.n_layer)) for _ in range(2))
    return Cache(keys, values, jnp.zeros((), jnp.int32))


class GPT(nn.Module):
    """The transformer and, unless it is tied to the token embedding, the head."""

    config: ModelConfig
    how: ComputeOptions = DEFAULT_OPTIONS

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B T"], cache: Cache | None, dropout_key: PRNGKeyArray | None
    ) -> tuple[Float[Array, "B T V"], Cache | None]:
        c = self.config
        x, wte, cache = Transformer(c, self.how, name="transformer")(tokens, cache, dropout_key)
        head = (
            wte
            if c.tie_word_embeddings
            else Embedding(axis_sizes(c)["vocab"], c.n_embd, name="lm_head")()
        )
        return mask_padding((x @ head.T).reshape(*tokens.shape, -1), c), cache


class Transformer(nn.Module):
    """Embeddings, blocks, final norm; also gives back the token embedding, for a tied head."""

    config: ModelConfig
    how: ComputeOptions = DEFAULT_OPTIONS

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B T"], cache: Cache | None, dropout_key: PRNGKeyArray | None
    ) -> tuple[Float[Array, "N D"], Float[Array, "V D"], Cache | None]:
        c = self.config
        B, T = tokens.shape
        start = 0 if cache is None else cache.length
        wte = Embedding(axis_sizes(c)["vocab"], c.n_embd, name="wte")()
        wpe = Embedding(c.n_positions, c.n_embd, name="wpe")()
        rows = lookup_table(wte, self.how)[tokens]  # (B, T, D)
        x = constrain(
            (rows + jax.lax.dynamic_slice_in_dim(wpe, start, T)).reshape(B * T, -1), self.how
        )  # (N, D)
        self.sow("intermediates", "embedding", x)  # kept only where `activations` asks for it
        x = dropout(x, c.dropout, _fold(dropout_key, c.n_layer))
        x, cache = Blocks(c, self.how, B, name="h")(x, cache, dropout_key)
        return LayerNorm(c.layer_norm_epsilon, name="ln_f")(x), wte, cache


class Blocks(nn.Module):
    """The stack of blocks (a module for the sake of its name, "h"), each with its own slice of the cache."""

    config: ModelConfig
    how: ComputeOptions
    rows: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "N D"], cache: Cache | None, dropout_key: PRNGKeyArray | None
    ) -> tuple[Float[Array, "N D"], Cache | None]:
        if self.how.scan_layers:
            return self.scanned(x, dropout_key), cache
        block = nn.remat(Block) if self.how.remat else Block
        new = []
        for layer in range(self.config.n_layer):
            past = None if cache is None else (cache.keys[layer], cache.values[layer], cache.length)
            x, kv = block(self.config, self.how, self.rows, name=str(layer))(
                x, past, _fold(dropout_key, layer)
            )
            new.append(kv)
        if cache is None:
            return x, None
        keys, values = zip(*new, strict=True)
        return x, Cache(keys, values, cache.length + x.shape[0] // self.rows)

    def scanned(
        self, x: Float[Array, "N D"], dropout_key: PRNGKeyArray | None
    ) -> Float[Array, "N D"]:
        """The same without a cache, as a loop over one block, for which the layers' parameters are stacked."""
        block = Block(
            self.config, self.how, self.rows, parent=None
        )  # of no module: its parameters come as an argument

        def one(x: Array, layer: tuple[Params, Array]) -> tuple[Array, None]:
            params, index = layer
            x, _ = block.apply({"params": params}, x, None, _fold(dropout_key, index))
            return x, None

        # In a loop nothing can be merged with its recomputation, so no barrier is needed against that.
        one = jax.checkpoint(one, prevent_cse=False) if self.how.remat else one
        indices = range(self.config.n_layer)
        layers = (self.variables["params"][str(layer)] for layer in indices)
        stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *layers)  # (L, ...) each
        return jax.lax.scan(one, x, (stacked, jnp.asarray(indices)))[0]


Past = tuple[Float[Array, "B H S K"], Float[Array, "B H S K"], Int[Array, ""]]
KeysValues = tuple[Float[Array, "B H S K"], Float[Array, "B H S K"]]


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)): pre-LayerNorm (Xiong et al. 2020)."""

    config: ModelConfig
    how: ComputeOptions
    rows: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "N D"], past: Past | None, dropout_key: PRNGKeyArray | None
    ) -> tuple[Float[Array, "N D"], KeysValues]:
        c = self.config
        normed = LayerNorm(c.layer_norm_epsilon, name="ln_1")(x)
        attended, kv = Attention(c, self.how, self.rows, name="attn")(
            normed, past, _fold(dropout_key, 0)
        )
        x = x + dropout(attended, c.dropout, _fold(dropout_key, 1))
        widened = MLP(c, name="mlp")(LayerNorm(c.layer_norm_epsilon, name="ln_2")(x))
        return constrain(x + dropout(widened, c.dropout, _fold(dropout_key, 2)), self.how), kv


class Attention(nn.Module):
    """Causal multi-head attention: every token looks at itself and at what stands before it."""

    config: ModelConfig
    how: ComputeOptions
    rows: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "N D"], past: Past | None, dropout_key: PRNGKeyArray | None
    ) -> tuple[Float[Array, "N D"], KeysValues]:
        c = self.config
        (N, D), B, H = x.shape, self.rows, c.n_head
        T, K = N // B, D // H
        qkv = Linear(3 * D, name="c_attn")(x)  # (N, 3 D)
        parts = (part.reshape(B, T, H, K) for part in jnp.split(qkv, 3, axis=-1))
        q, k, v = (constrain(part, self.how, None, "tensor") for part in parts)  # (B, T, H, K) each
        if self.how.attention != "own":  # a kernel without dropout, cache, or weights to look at
            kernel = self.how.attention
            mixed = jax.nn.dot_product_attention(
                q, k, v, is_causal=True, implementation=kernel
            ).reshape(N, D)
            return Linear(D, name="c_proj")(mixed), (k, v)
        q, k, v = (part.swapaxes(1, 2) for part in (q, k, v))  # (B, H, T, K) each
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
        mixed = jnp.einsum("bhts,bhsk->bthk", weights, v).reshape(N, D)
        return Linear(D, name="c_proj")(mixed), (k, v)


class MLP(nn.Module):
    """Widen four times, GELU, and back."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[Array, "N D"]) -> Float[Array, "N D"]:
        c = self.config
        gelu = functools.partial(jax.nn.gelu, approximate=c.activation == "gelu_new")
        x = Linear(4 * c.n_embd, name="c_fc")(x)  # (N, 4 D)
        x = jax.checkpoint(gelu)(
            x
        )  # keeps x for the gradient and nothing else, which is quicker than to read it
        return Linear(c.n_embd, name="c_proj")(x)


def constrain(
    x: Float[Array, "N *rest"], how: ComputeOptions, *axes: str | None
) -> Float[Array, "N *rest"]:
    """Constrain the sharding of x: its first axis over the mesh's rows, the next ones as named; None is not sharded."""
    if how.mesh is None:
        return x
    return jax.lax.with_sharding_constraint(
        x, sharding.named_sharding(how.mesh, sharding.ROW_AXES, *axes)
    )


def lookup_table(wte: Float[Array, "V D"], how: ComputeOptions) -> Float[Array, "V D"]:
    """The token embedding where rows of it can be had whole, so that what is looked up need not be moved by columns."""
    return (
        wte
        if how.mesh is None
        else jax.lax.with_sharding_constraint(wte, sharding.named_sharding(how.mesh, "tensor"))
    )


def causal_mask(T: int, S: int, start: Int[Array, ""] | int) -> Bool[Array, "T S"]:
    """True where query t, which stands at start + t, may look at key s."""
    return start + jnp.arange(T)[:, None] >= jnp.arange(S)[None, :]


def _fold(key: PRNGKeyArray | None, data: Int[Array, ""] | int) -> PRNGKeyArray | None:
    """A key of its own for every place that drops."""
    return None if key is None else jax.random.fold_in(key, data)
