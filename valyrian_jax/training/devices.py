"""The devices of a run: choice, description, software versions and peak performance."""

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
# Settings of JAX that change results by rounding; `valyrian_jax.model.jax_settings` pins others.
_ROUNDING_SETTINGS = (
    "jax_default_matmul_precision",
    "jax_disable_most_optimizations",
    "jax_optimization_level",
    "jax_use_direct_linearize",
    "jax_use_shardy_partitioner",
    "eager_constant_folding",
)


def select_device(name: str, deterministic: bool = False) -> jax.Device:
    """Return the first device of a platform.

    Args:
        name: "cpu", "gpu", or "auto" for the platform that JAX prefers.
        deterministic: Whether to use only kernels that give the same bits every time; XLA reads
            this once, before its first computation.

    Raises:
        UserError: JAX finds no such device; training never silently uses the CPU instead.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if deterministic and _DETERMINISTIC not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_DETERMINISTIC}".strip()
    if name == "cpu":
        jax.config.update("jax_platforms", "cpu")
    try:
        return jax.local_devices(backend=None if name == "auto" else name)[0]
    except RuntimeError as error:
        platforms = ", ".join(sorted({device.platform for device in jax.devices()}))
        raise UserError(
            f"train.device = {name}, but JAX finds only: {platforms}; "
            'install JAX for NVIDIA GPUs with pip install -e ".[cuda]", or use --train.device auto'
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a device could not allocate memory."""
    return (
        isinstance(error, jax.errors.JaxRuntimeError)
        and error.error_code_string == "RESOURCE_EXHAUSTED"
    )


def describe_device(device: jax.Device, mesh: Mesh) -> str:
    """Describe the device, and the mesh if there are several devices."""
    processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    axes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    devices = f", {mesh.size} devices{processes}: {axes}" if mesh.size > 1 else ""
    return f"{device.platform} ({device.device_kind}{devices}), JAX {jax.__version__}"


def collect_versions(device: jax.Device) -> dict[str, str]:
    """Return what results depend on besides the configuration: software, settings and hardware."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        **{name: _read_jax_setting(name) for name in _ROUNDING_SETTINGS},
        "processor": _read_processor(),
        "device": device.device_kind,
    }


def _read_jax_setting(name: str) -> str:
    """Return the value that a setting has in this thread, or else its global value."""
    return str(getattr(jax.config, name, jax.config.values.get(name)))


def _read_processor() -> str:
    """Return the model of the processor, for which XLA compiles."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


class PeakFlops(NamedTuple):
    """Peak of dense matrix products with float32 sums, in 10^12 FLOP/s; None: not supported."""

    bfloat16: float | None
    float32: float | None
    """In TF32 on devices that have it, because JAX uses it for float32 by default."""


_V100, _V100_PCIE, _T4 = PeakFlops(None, 15.7), PeakFlops(None, 14.0), PeakFlops(None, 8.1)
_A100, _H100 = PeakFlops(312.0, 156.0), PeakFlops(989.0, 494.5)
# By the name that the driver gives. Most data sheets state twice as much, "with sparsity".
_PEAKS = {
    # NVIDIA Tesla V100 and NVIDIA T4 data sheets; their tensor cores compute float16 only.
    **dict.fromkeys(("Tesla V100-SXM2-16GB", "Tesla V100-SXM2-32GB"), _V100),
    **dict.fromkeys(("Tesla V100-PCIE-16GB", "Tesla V100-PCIE-32GB"), _V100_PCIE),
    **dict.fromkeys(("Tesla T4",), _T4),
    # NVIDIA A10, A100, L4 and L40S data sheets.
    "NVIDIA A10": PeakFlops(125.0, 62.5),
    **dict.fromkeys(("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-80GB"), _A100),
    **dict.fromkeys(("NVIDIA A100-PCIE-40GB", "NVIDIA A100 80GB PCIe"), _A100),
    "NVIDIA L4": PeakFlops(121.0, 60.0),
    "NVIDIA L40S": PeakFlops(362.0, 183.0),
    # NVIDIA GA102 and Ada GPU architecture white papers.
    "NVIDIA GeForce RTX 3090": PeakFlops(71.0, 35.6),
    "NVIDIA GeForce RTX 4090": PeakFlops(165.2, 82.6),
    # NVIDIA H100, H200 and HGX B200 data sheets.
    "NVIDIA H100 80GB HBM3": _H100,
    "NVIDIA H100 PCIe": PeakFlops(756.0, 378.0),
    "NVIDIA H100 NVL": PeakFlops(835.0, 417.5),
    "NVIDIA H200": _H100,
    "NVIDIA B200": PeakFlops(2250.0, 1125.0),
}


def flops_per_token(config: ModelConfig) -> int:
    """Return the FLOP of one token in training, forward and backward: 6 N + 12 L D T.

    N is the number of parameters without the tables that are only looked up: positions and, unless
    it is also the output matrix, the token embedding. Attention counts as if every token attended
    to all T (Chowdhery et al. 2022, appendix B).
    """
    shapes = parameter_shapes(unpad_config(config))
    lookups = {"transformer.wpe.weight"} | (
        set() if config.tie_word_embeddings else {"transformer.wte.weight"}
    )
    N = sum(math.prod(shape) for name, shape in shapes.items() if name not in lookups)
    return 6 * N + 12 * config.n_layer * config.n_embd * config.n_positions


def peak_flops(kind: str, dtype: str, devices: int = 1) -> float | None:
    """Return the peak of matrix products of some devices in FLOP/s; None: unknown.

    `kind` is `jax.Device.device_kind`; a MIG slice has a name of its own, and no known peak.
    """
    peaks = _PEAKS.get(kind)
    peak = peaks and (peaks.bfloat16 if dtype == "bfloat16" else peaks.float32)
    return peak * 1e12 * devices if peak else None
