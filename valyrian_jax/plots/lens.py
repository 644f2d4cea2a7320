"""The logit lens as a table: for every layer and token, the most probable next token."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from valyrian_jax.bundle.lens import Lens
from valyrian_jax.errors import UserError
from valyrian_jax.plots.figures import escape_missing_glyphs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_TOKENS = 48  # more columns are not readable
_MAX_LABEL = 13  # characters of a label in a cell
_CELL_INCHES = 0.74, 0.3
_MAX_INCHES = 40  # bounds memory and file size for models with many layers


def draw_lens(lens: Lens) -> "Figure":
    """Draw a row for each layer and a column for each token of a text.

    A cell names the most probable next token. Its colour is the probability of that token, and it
    has a frame if that token is the next one of the text.
    """
    L, T = len(lens.predictions), len(lens.tokens)
    if T > MAX_TOKENS:
        raise UserError(
            f"the prompt has {T} tokens, but a lens shows at most {MAX_TOKENS}; use a shorter "
            "prompt"
        )
    from matplotlib.figure import Figure

    height = min(_CELL_INCHES[1], _MAX_INCHES / L)
    figure = Figure(figsize=(T * _CELL_INCHES[0] + 2.5, L * height + 1), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(lens.probabilities[..., 0], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    _write_cells(axes, lens, fontsize=7 * height / _CELL_INCHES[1])
    _label_axes(axes, [_shorten(label) for label in lens.tokens], L)
    figure.colorbar(image, ax=axes, aspect=10, pad=0.01, label="probability")
    return figure


def _write_cells(axes: "Axes", lens: Lens, fontsize: float) -> None:
    """Write the best prediction into every cell, and frame the right ones."""
    from matplotlib.patches import Rectangle

    for layer, row in enumerate(lens.predictions):
        for column, label in enumerate(row):
            is_dark = lens.probabilities[layer, column, 0] > 0.6
            text: dict[str, Any] = {"fontsize": fontsize, "parse_math": False}
            text |= {"ha": "center", "va": "center", "color": "white" if is_dark else "black"}
            axes.text(column, layer, _shorten(label), **text)
            if [label] == lens.tokens[column + 1 : column + 2]:
                corner = column - 0.46, layer - 0.42
                axes.add_patch(Rectangle(corner, 0.92, 0.84, fill=False, edgecolor="#D55E00"))


def _label_axes(axes: "Axes", labels: Sequence[str], layers: int) -> None:
    rows = ["embedding", *(f"layer {layer}" for layer in range(layers - 1))]
    axes.set_xticks(np.arange(len(labels)), labels, fontsize=8, parse_math=False)
    axes.set_yticks(np.arange(layers), rows, fontsize=8)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.set_xlabel("after this token, the most probable next one; framed if the text goes on so")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _shorten(label: str) -> str:
    label = escape_missing_glyphs(label)
    return f"{label[:_MAX_LABEL]}…" if len(label) > _MAX_LABEL else label
