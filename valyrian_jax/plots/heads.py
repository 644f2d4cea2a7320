"""What heads are for: a heat map of rules and heads, and where a head looks in examples."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from valyrian_jax.plots.figures import escape_missing_glyphs

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


class Look(NamedTuple):
    """Where a head looks.

    Attributes:
        title: What the tokens are an example of.
        labels: T tokens.
        weights: Attention weights of the last token, [T].
    """

    title: str
    labels: Sequence[str]
    weights: npt.NDArray[np.float32]


def draw_looks(title: str, looks: Sequence[Look]) -> "Figure":
    """Draw the attention weights of a head in examples, a panel of bars for each."""
    from matplotlib.figure import Figure

    rows = max(len(looks), 1)
    figure = Figure(figsize=(8, 2.4 * rows), layout="constrained")
    panels = figure.subplots(rows, squeeze=False, sharey=True)[:, 0]
    for axes, look in zip(panels, looks, strict=False):
        axes.bar(range(len(look.weights)), look.weights, color="#0072B2")
        labels = [escape_missing_glyphs(label) for label in look.labels]
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7, parse_math=False)
        axes.set_ylim(0, 1)
        axes.set_title(escape_missing_glyphs(look.title), fontsize="medium", parse_math=False)
    figure.supylabel("attention weight")
    figure.suptitle(title)
    return figure
