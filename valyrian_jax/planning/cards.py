"""The GPUs that a run can be planned for, by short name, with figures from their data sheets."""

import difflib
from typing import NamedTuple

from valyrian_jax.errors import UserError

DEVICES_PER_MACHINE = 8
# JAX allocates this share of a GPU's memory at its start, unless XLA_PYTHON_CLIENT_MEM_FRACTION
# says otherwise.
USABLE_SHARE = 3 / 4


class Card(NamedTuple):
    """A GPU."""

    kind: str  # the name that the driver gives; its peak is in `valyrian_jax.training.devices`
    memory: float  # GB
    link: float  # GB/s in each direction to the other devices of its machine
    capability: tuple[int, int]

    @property
    def usable_bytes(self) -> int:
        """Bytes that JAX uses by default."""
        return int(self.memory * 1e9 * USABLE_SHARE)


# A link is half of NVLink's figure in the data sheet, which adds up both directions, or that of PCI
# Express with 16 lanes.
CARDS = {
    "a10": Card("NVIDIA A10", 24, 32, (8, 6)),
    "a100": Card("NVIDIA A100-SXM4-80GB", 80, 300, (8, 0)),
    "a100-40gb": Card("NVIDIA A100-SXM4-40GB", 40, 300, (8, 0)),
    "b200": Card("NVIDIA B200", 180, 900, (10, 0)),
    "h100": Card("NVIDIA H100 80GB HBM3", 80, 450, (9, 0)),
    "h100-pcie": Card("NVIDIA H100 PCIe", 80, 64, (9, 0)),
    "h200": Card("NVIDIA H200", 141, 450, (9, 0)),
    "l4": Card("NVIDIA L4", 24, 32, (8, 9)),
    "l40s": Card("NVIDIA L40S", 48, 32, (8, 9)),
    "rtx3090": Card("NVIDIA GeForce RTX 3090", 24, 32, (8, 6)),
    "rtx4090": Card("NVIDIA GeForce RTX 4090", 24, 32, (8, 9)),
    "t4": Card("Tesla T4", 16, 16, (7, 5)),
    "v100": Card("Tesla V100-SXM2-32GB", 32, 150, (7, 0)),
}


def find_card(name: str) -> Card:
    """Return the GPU with a short name, in upper or lower case.

    Raises:
        UserError: There is no such GPU.
    """
    if card := CARDS.get(name.lower()):
        return card
    nearest = difflib.get_close_matches(name.lower(), CARDS, n=1)
    raise UserError(
        f"no device {name!r}: expected one of {', '.join(CARDS)}; "
        + (f"did you mean {nearest[0]}?" if nearest else "name one of them")
    )
