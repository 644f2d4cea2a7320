"""Attention maps: for every layer and head, the weight that each token gives to earlier ones."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from valyrian_jax.errors import UserError
from valyrian_jax.plots.figures import escape_missing_glyphs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

Int64 = npt.NDArray[np.int64]

MAX_TOKENS = 48  # more labels are not readable
_GAP = 1  # tokens between two maps
_GREY = 217, 217, 217, 255  # the future, which a token cannot attend to
_TOKEN_INCHES = 0.17
_MAX_INCHES = 30  # bounds memory and file size for large models, whose labels become small


def draw_attention(labels: Sequence[str], weights: npt.NDArray[np.float32]) -> "Figure":
    """Draw weights [L, H, T, T]: a row of maps for each layer and a column for each head."""
    T = len(labels)
    if T > MAX_TOKENS:
        raise UserError(
            f"the prompt has {T} tokens, but a map shows at most {MAX_TOKENS}; use a shorter prompt"
        )
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    tops, lefts = (np.arange(count) * (T + _GAP) for count in weights.shape[:2])
    colormap = colormaps["Blues"]
    image = _paint_maps(weights, tops, lefts, colormap)
    inches = min(_TOKEN_INCHES, _MAX_INCHES / max(image.shape[:2]))
    size = image.shape[1] * inches + 3, image.shape[0] * inches + 2
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    for top, left in itertools.product(tops, lefts):
        axes.add_patch(
            Rectangle((left - 0.5, top - 0.5), T, T, fill=False, linewidth=0.6, clip_on=False)
        )
    axes.imshow(image, interpolation="nearest")
    _label_axes(axes, labels, tops, lefts, fontsize=7 * inches / _TOKEN_INCHES)
    figure.colorbar(
        ScalarMappable(cmap=colormap),
        ax=axes,
        shrink=0.5,
        aspect=30,
        label="attention weight; a row sums to 1",
    )
    return figure


def _paint_maps(
    weights: npt.NDArray[np.float32], tops: Int64, lefts: Int64, colormap: "Colormap"
) -> npt.NDArray[np.uint8]:
    """Return the maps as one RGBA image; `tops` and `lefts` are the positions of the maps."""
    T = weights.shape[-1]
    image = np.full((tops[-1] + T, lefts[-1] + T, 4), 255, np.uint8)
    future = np.triu(np.ones((T, T), bool), k=1)
    for (layer, top), (head, left) in itertools.product(enumerate(tops), enumerate(lefts)):
        colours = colormap(weights[layer, head], bytes=True)
        colours[future] = _GREY
        image[top : top + T, left : left + T] = colours
    return image


def _label_axes(
    axes: "Axes", labels: Sequence[str], tops: Int64, lefts: Int64, fontsize: float
) -> None:
    """Write the token beside every row and column, and the numbers of layers and heads."""
    T, L, H = len(labels), len(tops), len(lefts)
    names, positions = [escape_missing_glyphs(label) for label in labels], np.arange(T)
    text: dict[str, Any] = {"fontsize": fontsize, "parse_math": False}
    axes.set_xticks((lefts[:, None] + positions).ravel(), names * H, rotation=90, **text)
    axes.set_yticks((tops[:, None] + positions).ravel(), names * L, **text)
    middle = (T - 1) / 2
    heads, layers = axes.secondary_xaxis("top"), axes.secondary_yaxis("right")
    heads.set_xticks(lefts + middle, [f"head {head}" for head in range(H)])
    layers.set_yticks(
        tops + middle, [f"layer {layer}" for layer in range(L)], rotation=90, va="center"
    )
    for side in (axes, heads, layers):
        side.tick_params(length=0)
        for spine in side.spines.values():
            spine.set_visible(False)
    axes.set_xlabel("key: the token attended to")
    axes.set_ylabel("query: the token that attends")
