"""Ways to compute the same model: what a run trades for memory, compile time or speed, and never for other values.

Every choice here changes results by rounding only, so a run may go on with another one.
"""

from typing import Any, Literal, NamedTuple

import jax
from jax.sharding import Mesh

from valyrian_jax.config import Config
from valyrian_jax.errors import UserError

Kernel = Literal["own", "xla", "cudnn"]


class ComputeOptions(NamedTuple):
    """How `valyrian_jax.model.gpt.forward` computes. Hashable, so that it can be a static argument."""

    scan_layers: bool = False
    """One compiled block that runs L times, instead of L blocks: compiles sooner, and copies the parameters once."""
    remat: bool = False
    """Keep of every block its input only, and compute the rest again for the gradient (Chen et al. 2016)."""
    attention: Kernel = "own"
    """Who computes attention: the lines in `valyrian_jax.model.gpt`, or `jax.nn.dot_product_attention`."""
    mesh: Mesh | None = None
    """The devices that share the work (see `valyrian_jax.model.sharding`); None: one."""


DEFAULT_OPTIONS = ComputeOptions()


def choose_options(config: Config, device: jax.Device, mesh: Mesh | None = None) -> ComputeOptions:
    """What a run's configuration asks for, on a device.

    Raises:
        UserError: an attention kernel was asked for that cannot compute this model there.
    """
    settings = config.train
    if settings.attention == "auto":
        kernel: Kernel = "own" if find_kernel_problem("cudnn", config, device) else "cudnn"
    else:
        kernel = settings.attention
        if found := find_kernel_problem(kernel, config, device):
            raise UserError(f"train.attention = {kernel}, but {found}; use --train.attention auto")
    return ComputeOptions(settings.scan_layers, settings.remat, kernel, mesh)


def compiler_options(mesh: Mesh) -> dict[str, bool] | None:
    """Return how XLA compiles for the devices of a mesh; None: with its defaults.

    On a GPU cuBLAS computes all products. Unlike XLA's Triton kernels it adds biases, GELU and residuals on the way,
    and there is less to try out while compiling.
    """
    return {"xla_gpu_enable_triton_gemm": False} if mesh.devices.flat[0].platform == "gpu" else None


def find_kernel_problem(kernel: Kernel, config: Config, device: Any) -> str | None:
    """Why a kernel cannot compute the attention of a run on a device; None: it can.

    What cuDNN's needs: https://docs.nvidia.com/deeplearning/cudnn (Fused Flash Attention), and what JAX checks.
    """
    if kernel == "own":
        return None
    model, dtype = config.model, config.train.dtype
    if round(model.dropout * 256):  # as `valyrian_jax.model.layers.dropout` rounds it
        return f"its kernel drops no attention weights, and model.dropout is {model.dropout}"
    if kernel == "xla":
        return None
    if device.platform != "gpu" or "cuda" not in device.client.platform_version:
        return f"cuDNN needs an NVIDIA GPU, and this is {device.platform} ({device.device_kind})"
    capability = tuple(int(part) for part in device.compute_capability.split("."))
    if capability < (8, 0):
        return f"cuDNN's kernel needs compute capability 8.0, and {device.device_kind} has {device.compute_capability}"
    if config.train.deterministic:  # jaxlib 0.11.2 ends the first step with an IndexError from XLA
        return "XLA cannot run cuDNN's kernel with train.deterministic"
    if dtype != "bfloat16":
        return f"cuDNN's kernel needs train.dtype bfloat16, and this is {dtype}"
    size, largest = model.n_embd // model.n_head, 256 if capability >= (9, 0) else 128
    if size % 8 or size > largest:
        return f"cuDNN's kernel needs heads whose width is a multiple of 8 up to {largest}, and this is {size}"
    return None


def describe_options(config: Config, how: ComputeOptions, device: jax.Device) -> str | None:
    """How a run computes, for its header; None where there is nothing to say: on a CPU with the default."""
    unusable = find_kernel_problem("cudnn", config, device)
    parts = [
        "the layers in a loop" if how.scan_layers else "",
        "the blocks once more for the gradient" if how.remat else "",
        {"own": "", "xla": "attention by XLA", "cudnn": "attention by cuDNN"}[how.attention],
        f"own attention: {unusable}"
        if how.attention == "own" and device.platform == "gpu" and unusable
        else "",
    ]
    return "; ".join(filter(None, parts)) or None
