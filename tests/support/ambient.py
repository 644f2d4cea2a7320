"""Settings of JAX that a user may change for a whole process, with values that are not usual."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax

HOSTILE_JAX_SETTINGS: dict[str, Any] = {
    "jax_enable_x64": True,
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_random_seed_offset": 5,
    "jax_numpy_rank_promotion": "raise",
    "jax_numpy_dtype_promotion": "strict",
    "jax_transfer_guard": "disallow",
    "jax_transfer_guard_host_to_device": "disallow",
    "jax_softmax_custom_jvp": True,
    "jax_legacy_prng_key": "error",
    "jax_debug_nans": True,
    "jax_debug_infs": True,
    "jax_debug_key_reuse": True,
    "jax_disable_jit": True,
}


@contextlib.contextmanager
def set_jax_settings(settings: dict[str, Any]) -> Iterator[None]:
    """Change global settings, check at the end that they are still changed, and reset them."""
    values = dict(jax.config.values)
    try:
        for name, value in settings.items():
            jax.config.update(name, value)
        changed = dict(jax.config.values)
        yield
        assert jax.config.values == changed
        effective = {name: getattr(jax.config, name) for name in settings}
        assert effective == {name: changed[name] for name in settings}
    finally:
        for name in settings:
            jax.config.update(name, values[name])
