"""Where JAX computes."""

import jax

from valyrian_jax.errors import UserError


def select(name: str) -> jax.Device:
    """Choose the device of this process: "cpu", "gpu", or "auto" for what JAX prefers.

    Raises:
        UserError: a GPU was asked for and JAX sees none; training on the CPU instead would be a silent surprise.
    """
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
