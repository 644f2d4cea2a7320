"""Where JAX computes, and with what."""

import math
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from valyrian_jax.bundle.names import parameter_shapes, unpad_config
from valyrian_jax.config import ModelConfig
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
    lines = (
        facts.read_text(encoding="utf-8", errors="replace").splitlines() if facts.exists() else []
    )
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


class PeakFlops(NamedTuple):
    """Dense products of a device, in 10^12 operations a second, sums in float32; None: it has no such products."""

    bfloat16: float | None
    float32: float | None
    """In TF32 where the device has it, for JAX multiplies float32 so by default; else in float32."""


_V100, _V100_PCIE, _T4 = PeakFlops(None, 15.7), PeakFlops(None, 14.0), PeakFlops(None, 8.1)
_A100, _H100 = PeakFlops(312.0, 156.0), PeakFlops(989.0, 494.5)
_PEAKS = {  # by the name that the driver gives; data sheets state most of these twice as large, "with sparsity"
    # NVIDIA Tesla V100 and NVIDIA T4 data sheets: tensor cores for float16 only
    **dict.fromkeys(("Tesla V100-SXM2-16GB", "Tesla V100-SXM2-32GB"), _V100),
    **dict.fromkeys(("Tesla V100-PCIE-16GB", "Tesla V100-PCIE-32GB"), _V100_PCIE),
    **dict.fromkeys(("Tesla T4",), _T4),
    # NVIDIA A10, A100, L4 and L40S data sheets
    "NVIDIA A10": PeakFlops(125.0, 62.5),
    **dict.fromkeys(("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-80GB"), _A100),
    **dict.fromkeys(("NVIDIA A100-PCIE-40GB", "NVIDIA A100 80GB PCIe"), _A100),
    "NVIDIA L4": PeakFlops(121.0, 60.0),
    "NVIDIA L40S": PeakFlops(362.0, 183.0),
    # NVIDIA GA102 and Ada GPU architecture white papers
    "NVIDIA GeForce RTX 3090": PeakFlops(71.0, 35.6),
    "NVIDIA GeForce RTX 4090": PeakFlops(165.2, 82.6),
    # NVIDIA H100, H200 and HGX B200 data sheets
    "NVIDIA H100 80GB HBM3": _H100,
    "NVIDIA H100 PCIe": PeakFlops(756.0, 378.0),
    "NVIDIA H100 NVL": PeakFlops(835.0, 417.5),
    "NVIDIA H200": _H100,
    "NVIDIA B200": PeakFlops(2250.0, 1125.0),
}


def flops_per_token(config: ModelConfig) -> int:
    """Operations a token costs in training: 6 N + 12 L D T, forward and backward.

    N counts the parameters but for those that are only looked up: positions and, where it is not also the head, the
    token embedding. Attention counts as if every token looked at all T, as in the paper.
    """
    shapes = parameter_shapes(unpad_config(config))
    lookups = {"transformer.wpe.weight"} | (
        set() if config.tie_word_embeddings else {"transformer.wte.weight"}
    )
    N = sum(math.prod(shape) for name, shape in shapes.items() if name not in lookups)
    return 6 * N + 12 * config.n_layer * config.n_embd * config.n_positions


def peak_flops(kind: str, dtype: str, devices: int = 1) -> float | None:
    """What devices of one kind can do with products of a type, in operations a second; None where that is not known.

    Args:
        kind: `jax.Device.device_kind`. A part of a device (MIG) has another name than the whole.
        dtype: `train.dtype`.
        devices: how many compute together.
    """
    known = _PEAKS.get(kind)
    one = known and (known.bfloat16 if dtype == "bfloat16" else known.float32)
    return one * 1e12 * devices if one else None
