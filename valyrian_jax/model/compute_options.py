"""Ways to compute the same model that trade memory, compile time and speed.

Every option changes results by rounding only, so a run can resume with other options.
"""

from typing import Any, Literal, NamedTuple

import jax
from jax.sharding import Mesh

from valyrian_jax.config import Config, ModelConfig
from valyrian_jax.errors import UserError

Kernel = Literal["own", "xla", "cudnn"]
MAX_PROGRAMS = 16  # Programs of each kind that a process keeps for runs with equal settings.


class ComputeOptions(NamedTuple):
    """Options of `valyrian_jax.model.gpt.forward`; hashable, so they can be a static argument."""

    scan_layers: bool = False
    """Compile one block and run it L times: faster to compile, and parameters are copied once."""
    remat: bool = False
    """Keep only the inputs of blocks and recompute the rest for the gradient (Chen et al. 2016)."""
    attention: Kernel = "own"
    """own: the code in `valyrian_jax.model.gpt`; others are in `jax.nn.dot_product_attention`."""
    mesh: Mesh | None = None
    """Devices that share the work (see `valyrian_jax.model.sharding`); None is one device."""


DEFAULT_OPTIONS = ComputeOptions()


def choose_options(config: Config, device: jax.Device, mesh: Mesh | None = None) -> ComputeOptions:
    """Return the options that a configuration selects on a device.

    Raises:
        UserError: The device cannot use the configured attention.
    """
    settings = config.train
    if settings.attention == "auto":
        kernel: Kernel = "own" if find_kernel_problem("cudnn", config, device) else "cudnn"
    else:
        kernel = settings.attention
        if problem := find_kernel_problem(kernel, config, device):
            raise UserError(
                f"cannot use train.attention = {kernel}: {problem}; pass --train.attention auto"
            )
    return ComputeOptions(settings.scan_layers, settings.remat, kernel, mesh)


def compiler_options(mesh: Mesh) -> dict[str, bool] | None:
    """Return XLA's options for the devices of a mesh; None means its defaults.

    On a GPU, cuBLAS computes all products. Unlike XLA's Triton kernels, it fuses biases, GELU and
    residuals into the product, and XLA has fewer kernels to compare at compile time.
    """
    return {"xla_gpu_enable_triton_gemm": False} if mesh.devices.flat[0].platform == "gpu" else None


def find_kernel_problem(kernel: Kernel, config: Config, device: Any) -> str | None:
    """Return why a kernel cannot compute a run's attention on a device; None if it can."""
    if kernel == "own":
        return None
    if problem := _find_dropout(config.model):
        return problem
    if kernel == "xla":
        return None
    if device.platform != "gpu" or "cuda" not in device.client.platform_version:
        return f"expected an NVIDIA GPU, found {device.platform} ({device.device_kind})"
    capability = tuple(int(number) for number in device.compute_capability.split("."))
    return find_cudnn_problem(config, capability, device.device_kind)


def find_cudnn_problem(config: Config, capability: tuple[int, ...], name: str) -> str | None:
    """Return why cuDNN cannot compute a run's attention on an NVIDIA GPU; None if it can.

    The limits are from https://docs.nvidia.com/deeplearning/cudnn (Fused Flash Attention) and from
    JAX's checks.
    """
    model, dtype = config.model, config.train.dtype
    if problem := _find_dropout(model):
        return problem
    if capability < (8, 0):
        shown = ".".join(map(str, capability))
        return f"expected compute capability 8.0 or later, found {shown} ({name})"
    if config.train.deterministic:  # XLA raises an IndexError in the first step (jaxlib 0.11.2)
        return "expected train.deterministic = false, found true"
    if dtype != "bfloat16":
        return f"expected train.dtype = bfloat16, found {dtype}"
    width, max_width = model.n_embd // model.n_head, 256 if capability >= (9, 0) else 128
    if width % 8 or width > max_width:
        return f"expected a head width that is a multiple of 8 up to {max_width}, found {width}"
    return None


def _find_dropout(model: ModelConfig) -> str | None:
    """Return why dropout rules out the other kernels, which lack it; None without dropout."""
    has_dropout = round(model.dropout * 256)  # the rounding of `valyrian_jax.model.layers.dropout`
    return f"expected model.dropout = 0, found {model.dropout}" if has_dropout else None


def describe_options(config: Config, options: ComputeOptions, device: jax.Device) -> str | None:
    """Describe the options for the header of a run; None for the defaults on a CPU."""
    problem = find_kernel_problem("cudnn", config, device)
    is_fallback = options.attention == "own" and device.platform == "gpu" and problem
    notes = [
        "scanned layers" if options.scan_layers else "",
        "rematerialised blocks" if options.remat else "",
        {"own": "", "xla": "attention by XLA", "cudnn": "attention by cuDNN"}[options.attention],
        f"attention without cuDNN: {problem}" if is_fallback else "",
    ]
    return "; ".join(filter(None, notes)) or None
