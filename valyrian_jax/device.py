"""Where JAX computes, and with what."""

import os
import platform
from importlib.metadata import version

import jax

from valyrian_jax.errors import UserError

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def select(name: str, deterministic: bool = False) -> jax.Device:
    """Choose the device of this process.

    Args:
        name: "cpu", "gpu", or "auto" for what JAX prefers.
        deterministic: only kernels that give the same bits every time. XLA reads this once, before it first computes.

    Raises:
        UserError: a GPU was asked for and JAX sees none; training on the CPU instead would be a silent surprise.
    """
    if deterministic:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true"
    if name == "cpu":
        jax.config.update("jax_platforms", "cpu")
    try:
        return jax.devices(None if name == "auto" else name)[0]
    except RuntimeError as error:
        seen = ", ".join(sorted({device.platform for device in jax.devices()}))
        raise UserError(
            f"train.device = {name}, but JAX sees only: {seen}; "
            'install JAX for NVIDIA GPUs with pip install -e ".[cuda]", or use --train.device auto'
        ) from error


def describe(device: jax.Device) -> str:
    """The device in a few words."""
    count = jax.local_device_count(device.platform)
    return f"{device.platform} ({device.device_kind}{f', {count} devices' if count > 1 else ''}), JAX {jax.__version__}"


def versions(device: jax.Device) -> dict[str, str]:
    """What numbers depend on beside the configuration: software, its flags, and the kind of device."""
    found = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
    return found | {"device": device.device_kind, "XLA_FLAGS": os.environ.get("XLA_FLAGS", "").strip()}
