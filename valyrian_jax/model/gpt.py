"""The GPT: embed the tokens, apply the blocks, score every next token.

First read `Block`, `Attention` and `MLP`, then `Transformer` and `GPT`, which surround them. Until
you need it, skip the rest: `cache` (earlier keys and values, for generation), `_fold_in` and
`dropout` (random zeros in training), `sow` (hands values to `activations`), and `options` with
`constrain`, `mesh`, `kernel`, `scan` and `remat` (other devices, speed and memory).

Parameters are a nested dict of float32 arrays. Their paths, joined with dots, are GPT-2's names
(see `valyrian_jax.bundle.names.parameter_shapes`).
References: Radford et al. 2019 (GPT-2); Vaswani et al. 2017 (attention).

Sizes: B rows, T tokens, N = B T, S keys, D width, H heads, K width of a head (D = H K),
V vocabulary (rows of the token table), L layers. Between the embedding and the logits, rows and
tokens are one axis: XLA on a GPU would otherwise choose a layout for [B, T, D] that every LayerNorm
must transpose.

Callers see pure functions. Flax modules are used only here and in `valyrian_jax.model.layers`.
"""

import functools
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from valyrian_jax.config import ModelConfig
from valyrian_jax.model.compute_options import DEFAULT_OPTIONS, ComputeOptions
from valyrian_jax.model.jax_settings import pin_trace_settings
from valyrian_jax.model.layers import Embedding, LayerNorm, Linear, at_least_float32, dropout
from valyrian_jax.model.parameters import Params, mask_padding
from valyrian_jax.model.sharding import ROW_AXES, constrain


class Cache(NamedTuple):
    """Keys and values of every layer for the previous tokens.

    In row b, positions from `lengths[b]` on are unused.
    """

    keys: tuple[Float[Array, "B H S K"], ...]
    values: tuple[Float[Array, "B H S K"], ...]
    lengths: Int[Array, " B"]  # number of previous tokens in each row


KeyValues = tuple[Float[Array, "B H S K"], Float[Array, "B H S K"]]
LayerCache = tuple[Float[Array, "B H S K"], Float[Array, "B H S K"], Int[Array, " B"]]


@pin_trace_settings()
def forward(
    params: Params,
    tokens: Int[Array, "B T"],
    config: ModelConfig,
    dropout_key: PRNGKeyArray | None = None,
    options: ComputeOptions = DEFAULT_OPTIONS,
) -> Float[Array, "B T V"]:
    """Return the logits of every next token.

    Args:
        params: Parameters, as from `init_params`. Activations and products have their type
            (float32, bfloat16, float64); norms and softmax have at least float32.
        tokens: Token ids; T is at most n_positions.
        config: Shape of the model.
        dropout_key: Key of the dropout in training; None means no dropout.
        options: Ways to compute, which change values by rounding only.
    """
    logits, _ = GPT(config, options).apply({"params": params}, tokens, None, dropout_key)
    return logits


@pin_trace_settings()
def forward_cached(
    params: Params, tokens: Int[Array, "B T"], config: ModelConfig, cache: Cache
) -> tuple[Float[Array, "B T V"], Cache]:
    """Return the logits of tokens that follow those in the cache, and the extended cache.

    The length of each row of the cache plus T is at most n_positions.
    """
    logits, cache = GPT(config).apply({"params": params}, tokens, cache, None)
    return logits, cache


def empty_cache(config: ModelConfig, rows: int) -> Cache:
    """Return a cache with room for n_positions tokens in each row."""
    shape = (rows, config.n_head, config.n_positions, config.n_embd // config.n_head)
    keys, values = (
        tuple(jnp.zeros(shape, jnp.float32) for _ in range(config.n_layer)) for _ in range(2)
    )
    return Cache(keys, values, jnp.zeros(rows, jnp.int32))


class GPT(nn.Module):
    """The transformer and the output matrix, which may be the token embedding itself."""

    config: ModelConfig
    options: ComputeOptions = DEFAULT_OPTIONS

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B T"], cache: Cache | None, dropout_key: PRNGKeyArray | None
    ) -> tuple[Float[Array, "B T V"], Cache | None]:
        """Return the logits and the extended cache."""
        transformer = Transformer(self.config, self.options, name="transformer")
        x, wte, cache = transformer(tokens, cache, dropout_key)
        lm_head = wte if self.config.tie_word_embeddings else Embedding(name="lm_head")()
        return mask_padding((x @ lm_head.T).reshape(*tokens.shape, -1), self.config), cache


class Transformer(nn.Module):
    """The embeddings, the blocks and the final norm."""

    config: ModelConfig
    options: ComputeOptions

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B T"], cache: Cache | None, dropout_key: PRNGKeyArray | None
    ) -> tuple[Float[Array, "N D"], Float[Array, "V D"], Cache | None]:
        """Return the final states, the token embedding for tied weights, and the extended cache."""
        c, mesh = self.config, self.options.mesh
        B, T = tokens.shape
        wte = Embedding(name="wte")()
        wpe = Embedding(name="wpe")()
        # Gather whole rows of the table, so that the lookup does not communicate columns.
        rows = constrain(wte, mesh, "tensor")[tokens]  # (B, T, D)
        positions = wpe[:T] if cache is None else wpe[positions_after(cache.lengths, T)]
        x = (rows + positions).reshape(B * T, -1)
        x = constrain(x, mesh, ROW_AXES)  # (N, D)
        self.sow("intermediates", "embedding", x)  # for `activations`
        x = dropout(x, c.dropout, _fold_in(dropout_key, c.n_layer))
        x, cache = Blocks(c, self.options, B, name="h")(x, cache, dropout_key)
        return LayerNorm(c.layer_norm_epsilon, name="ln_f")(x), wte, cache


class Blocks(nn.Module):
    """The stack of blocks; a module because GPT-2's parameter names contain its name, "h"."""

    config: ModelConfig
    options: ComputeOptions
    rows: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "N D"], cache: Cache | None, dropout_key: PRNGKeyArray | None
    ) -> tuple[Float[Array, "N D"], Cache | None]:
        """Return the states after the last block and the extended cache."""
        if self.options.scan_layers:
            return self.scan(x, dropout_key), cache
        block = nn.remat(Block) if self.options.remat else Block
        new = []
        for i in range(self.config.n_layer):
            layer_cache = None if cache is None else (cache.keys[i], cache.values[i], cache.lengths)
            layer = block(self.config, self.options, self.rows, name=str(i))
            x, keys_values = layer(x, layer_cache, _fold_in(dropout_key, i))
            new.append(keys_values)
        if cache is None:
            return x, None
        keys, values = zip(*new, strict=True)
        return x, Cache(keys, values, cache.lengths + x.shape[0] // self.rows)

    def scan(self, x: Float[Array, "N D"], dropout_key: PRNGKeyArray | None) -> Float[Array, "N D"]:
        """Apply the blocks without a cache, as a loop over one block and stacked parameters."""
        # Without a parent, the block takes its parameters as an argument.
        block = Block(self.config, self.options, self.rows, parent=None)

        def apply_layer(x: Array, layer: tuple[Params, Array]) -> tuple[Array, None]:
            params, index = layer
            x, _ = block.apply({"params": params}, x, None, _fold_in(dropout_key, index))
            return x, None

        if self.options.remat:
            # XLA cannot merge a loop's recomputation with its forward pass: no barrier is needed.
            apply_layer = jax.checkpoint(apply_layer, prevent_cse=False)
        indices = range(self.config.n_layer)
        layers = (self.get_variable("params", str(i)) for i in indices)
        stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *layers)  # (L, ...) each
        return jax.lax.scan(apply_layer, x, (stacked, jnp.asarray(indices)))[0]


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)): pre-LayerNorm (Xiong et al. 2020)."""

    config: ModelConfig
    options: ComputeOptions
    rows: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "N D"], cache: LayerCache | None, dropout_key: PRNGKeyArray | None
    ) -> tuple[Float[Array, "N D"], KeyValues]:
        """Return the states after the block and its keys and values."""
        c = self.config
        normed = LayerNorm(c.layer_norm_epsilon, name="ln_1")(x)
        attention = Attention(c, self.options, self.rows, name="attn")
        attention_output, keys_values = attention(normed, cache, _fold_in(dropout_key, 0))
        x = x + dropout(attention_output, c.dropout, _fold_in(dropout_key, 1))
        hidden = MLP(c, name="mlp")(LayerNorm(c.layer_norm_epsilon, name="ln_2")(x))
        x = x + dropout(hidden, c.dropout, _fold_in(dropout_key, 2))
        return constrain(x, self.options.mesh, ROW_AXES), keys_values


class Attention(nn.Module):
    """Causal multi-head attention: every token attends to itself and to the tokens before it."""

    config: ModelConfig
    options: ComputeOptions
    rows: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "N D"], cache: LayerCache | None, dropout_key: PRNGKeyArray | None
    ) -> tuple[Float[Array, "N D"], KeyValues]:
        """Return the mixed values of all heads, projected, and the layer's keys and values."""
        c, mesh, kernel = self.config, self.options.mesh, self.options.attention
        (N, D), B, H = x.shape, self.rows, c.n_head
        T, K = N // B, D // H
        qkv = jnp.split(Linear(name="c_attn")(x), 3, axis=-1)  # (N, D) each
        heads = (array.reshape(B, T, H, K) for array in qkv)
        q, k, v = (constrain(array, mesh, ROW_AXES, None, "tensor") for array in heads)
        if kernel != "own":  # these kernels have no dropout and no cache, and hide their weights
            mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=kernel)
            return Linear(name="c_proj")(mixed.reshape(N, D)), (k, v)
        q, k, v = (array.swapaxes(1, 2) for array in (q, k, v))  # (B, H, T, K) each
        positions = jnp.arange(T)
        if cache is not None:
            cached_keys, cached_values, lengths = cache
            positions = positions_after(lengths, T)  # (B, T)
            k = write_rows(cached_keys, k, lengths)  # (B, H, S, K)
            v = write_rows(cached_values, v, lengths)
        scores = at_least_float32(jnp.einsum("bhtk,bhsk->bhts", q, k)) / math.sqrt(K)
        scores = jnp.where(causal_mask(positions, k.shape[2]), scores, -jnp.inf)
        weights = jax.nn.softmax(scores, axis=-1).astype(x.dtype)  # (B, H, T, S)
        self.sow("intermediates", "weights", weights)  # for `attention_weights`
        weights = dropout(weights, c.dropout, _fold_in(dropout_key, 0))
        mixed = jnp.einsum("bhts,bhsk->bthk", weights, v).reshape(N, D)
        return Linear(name="c_proj")(mixed), (k, v)


class MLP(nn.Module):
    """Two products with a GELU between them; the hidden layer is four times as wide."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[Array, "N D"]) -> Float[Array, "N D"]:
        """Return the output of the second product."""
        gelu = functools.partial(jax.nn.gelu, approximate=self.config.activation == "gelu_new")
        x = Linear(name="c_fc")(x)  # (N, 4 D)
        # The gradient recomputes GELU from x, which is faster than reading its intermediates.
        return Linear(name="c_proj")(jax.checkpoint(gelu)(x))


def positions_after(lengths: Int[Array, " B"], T: int) -> Int[Array, "B T"]:
    """Return the positions of T new tokens in each row, which has `lengths` tokens already."""
    return lengths[:, None] + jnp.arange(T)


def write_rows(
    cached: Float[Array, "B H S K"], new: Float[Array, "B H T K"], lengths: Int[Array, " B"]
) -> Float[Array, "B H S K"]:
    """Write keys or values of T tokens into the cache, after the `lengths` ones of each row."""
    write = functools.partial(jax.lax.dynamic_update_slice_in_dim, axis=1)
    return jax.vmap(write)(cached, new, lengths)


def causal_mask(positions: Int[Array, "*B T"], S: int) -> Bool[Array, "*B 1 T S"]:
    """Return True where the query at a position may attend to key s, in every head."""
    return positions[..., None, :, None] >= jnp.arange(S)


def _fold_in(key: PRNGKeyArray | None, index: Int[Array, ""] | int) -> PRNGKeyArray | None:
    """Derive a different key for every layer and every dropout in it; None stays None."""
    return None if key is None else jax.random.fold_in(key, index)
