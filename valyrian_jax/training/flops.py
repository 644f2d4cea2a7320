"""How much arithmetic a token costs in training, and how much a device can do: together, how well it is used (MFU).

Model FLOPs utilisation is what the mathematics of the model needs over what the devices could compute in that time
(Chowdhery et al. 2022, PaLM, appendix B). What is computed twice to save memory (`train.remat`) does not count as
used, nor do the rows that pad the vocabulary.
"""

import math
from typing import NamedTuple

from valyrian_jax.bundle.names import parameter_shapes, unpad_config
from valyrian_jax.config import ModelConfig


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
    lookups = {"transformer.wpe.weight"} | (set() if config.tie_word_embeddings else {"transformer.wte.weight"})
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
