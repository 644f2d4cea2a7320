"""What each head is for, as a heat map: a row for each rule, a column for each head and MLP."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CELL_INCHES = 0.5, 0.3
_MAX_INCHES = 40  # bounds memory and file size for large models
_RANGE = 25.0  # points; larger changes share a colour, or the MLPs' would make the heads' pale


def draw_heads(
    rules: Sequence[str], components: Sequence[str], changes: npt.NDArray[np.float64]
) -> "Figure":
    """Draw by how many percentage points the accuracy changes without each component.

    Args:
        rules: Names of R rules.
        components: Names of C heads and MLPs.
        changes: Change of the share of right pairs in percentage points, [R, C].
    """
    from matplotlib.figure import Figure

    R, C = changes.shape
    size = min(C * _CELL_INCHES[0] + 3, _MAX_INCHES), min(R * _CELL_INCHES[1] + 1.5, _MAX_INCHES)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(changes, cmap="RdBu", vmin=-_RANGE, vmax=_RANGE, aspect="auto")
    axes.set_xticks(range(C), components, rotation=90, fontsize=8)
    axes.set_yticks(range(R), rules, fontsize=8)
    for (row, column), change in np.ndenumerate(changes):
        if round(change):
            colour = "white" if abs(change) > 0.6 * _RANGE else "black"
            text = f"{change:+.0f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    axes.set_xlabel("without this head (layer.head) or MLP")
    axes.set_title("change of right minimal pairs (points)", fontsize="medium")
    figure.colorbar(image, ax=axes, pad=0.01, extend="both")
    return figure
