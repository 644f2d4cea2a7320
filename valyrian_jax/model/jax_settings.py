"""JAX's global settings, pinned to the values that every promise of equal results depends on.

A notebook may turn on 64-bit types, choose another random generator or forbid implicit promotion,
and JAX applies such settings to every library in the process. Public functions run under
`pin_jax_settings`, so the same seed gives the same run and the same text there too. The caller's
settings are back when the function returns.

Settings that change results by rounding only, such as the precision of products, are left to the
caller; `valyrian_jax.training.devices` stores them in every checkpoint. The default device is left
to the caller too.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

Settings = tuple[tuple[Any, Any], ...]  # context managers that set a value, and the values

_RANDOM_GENERATOR = "threefry2x32"

# Settings that suit parameters of any type and may change inside a trace.
_TRACE_SETTINGS: Settings = (
    (jax.numpy_dtype_promotion, "standard"),
    (jax.numpy_rank_promotion, "allow"),
    (jax.transfer_guard, "allow"),
    (jax.default_prng_impl, _RANDOM_GENERATOR),
    (jax.threefry_partitionable, True),
    (jax.softmax_custom_jvp, False),
    (jax.disable_jit, False),
)
_ALL_SETTINGS: Settings = (
    *_TRACE_SETTINGS,
    (jax.enable_x64, False),
    (jax.set_mesh, None),
    (jax.legacy_prng_key, "allow"),
    # Steps and logits that are not finite have errors of their own.
    (jax.debug_nans, False),
    (jax.debug_infs, False),
    (jax.debug_key_reuse, False),
)


@contextlib.contextmanager
def pin_jax_settings(settings: Settings = _ALL_SETTINGS) -> Iterator[None]:
    """Pin all settings: a context manager, and a decorator of functions that do not yield."""
    with contextlib.ExitStack() as stack:
        for set_value, value in settings:
            stack.enter_context(set_value(value))
        yield


pin_trace_settings = functools.partial(pin_jax_settings, _TRACE_SETTINGS)
"""Pin what a function needs that callers trace, with parameters of any type."""


@pin_trace_settings()
def make_key(seed: jax.typing.ArrayLike) -> jax.Array:
    """Return `jax.random.key(seed)` for a seed below 2^32; JAX can add an offset to that seed."""
    words = jnp.stack([jnp.uint32(0), jnp.asarray(seed, jnp.uint32)])
    return jax.random.wrap_key_data(words, impl=_RANDOM_GENERATOR)
