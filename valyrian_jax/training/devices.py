"""Where JAX computes, and with what."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import jax
from jax.sharding import Mesh

from valyrian_jax.errors import UserError

_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def select_device(name: str, deterministic: bool = False) -> jax.Device:
    """Choose what this process computes with: the first of its devices stands for the others.

    Args:
        name: "cpu", "gpu", or "auto" for what JAX prefers.
        deterministic: only kernels that give the same bits every time. XLA reads this once, before it first computes.

    Raises:
        UserError: a GPU was asked for and JAX sees none; training on the CPU instead would be a silent surprise.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if deterministic and _DETERMINISTIC not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_DETERMINISTIC}".strip()
    if name == "cpu":
        jax.config.update("jax_platforms", "cpu")
    try:
        return jax.local_devices(backend=None if name == "auto" else name)[0]
    except RuntimeError as error:
        seen = ", ".join(sorted({device.platform for device in jax.devices()}))
        raise UserError(
            f"train.device = {name}, but JAX sees only: {seen}; "
            'install JAX for NVIDIA GPUs with pip install -e ".[cuda]", or use --train.device auto'
        ) from error


def describe_device(device: jax.Device, mesh: Mesh) -> str:
    """The device in a few words, and the mesh if there are several."""
    shape = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    several = f", {mesh.size} devices{processes}: {shape}" if mesh.size > 1 else ""
    return f"{device.platform} ({device.device_kind}{several}), JAX {jax.__version__}"


def software_versions(device: jax.Device) -> dict[str, str]:
    """What numbers depend on beside the configuration: software, its flags, processor and device."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "processor": _processor(),
        "device": device.device_kind,
    }


def _processor() -> str:
    """The model of the processor, for which XLA compiles."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8", errors="replace").splitlines() if facts.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()
