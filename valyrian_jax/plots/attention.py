"""The picture of attention: for every layer and head, how much each token of a text looks at those before it."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.text_generation import encode_prompt
from valyrian_jax.errors import UserError
from valyrian_jax.plots.curves import make_drawable
from valyrian_jax.tokenizer.display import token_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_TOKENS = 48  # tokens: more cannot be read
_GAP = 1  # tokens, between two maps
_GREY = 217, 217, 217, 255  # what comes later, where no token can look
_INCHES = 0.17  # of a token
_WIDEST = (
    30  # inches: in those of a large model the labels are small, but memory and files stay so too
)


def draw_bundle_attention(bundle: Bundle, text: str) -> "Figure":
    """The attention of a model in a text; see `draw`.

    Raises:
        UserError: the text has too many tokens for the model or for the picture.
    """
    import jax.numpy as jnp

    from valyrian_jax.model.gpt import attention_weights
    from valyrian_jax.model.parameters import from_tensors

    tokens = encode_prompt(bundle.tokenizer, text)
    if len(tokens) > bundle.model.n_positions:
        raise UserError(
            f"the prompt has {len(tokens)} tokens, but the model's context is {bundle.model.n_positions}"
        )
    weights = attention_weights(from_tensors(bundle.tensors), jnp.asarray([tokens]), bundle.model)
    return draw_attention(
        [token_label(bundle.tokenizer, token) for token in tokens], np.asarray(weights[:, 0])
    )


def draw_attention(labels: Sequence[str], weights: npt.NDArray[np.float32]) -> "Figure":
    """A grid of layers (down) by heads (across).

    Args:
        labels: of the T tokens, at most `LARGEST`.
        weights: float32 [L, H, T, T], of query and key; from `valyrian_jax.model.gpt.attention_weights`.

    Raises:
        UserError: there are too many tokens.
    """
    if len(labels) > MAX_TOKENS:
        raise UserError(
            f"the prompt has {len(labels)} tokens, of which a map can show {MAX_TOKENS}; take a shorter one"
        )
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    L, H, T, _ = weights.shape
    rows, columns = (np.arange(count) * (T + _GAP) for count in (L, H))  # where the maps begin
    shades = colormaps["Blues"]
    picture = np.full((rows[-1] + T, columns[-1] + T, 4), 255, np.uint8)
    later = np.triu(np.ones((T, T), bool), k=1)
    inch = min(_INCHES, _WIDEST / max(picture.shape[:2]))
    figure = Figure(
        figsize=(picture.shape[1] * inch + 3, picture.shape[0] * inch + 2), layout="constrained"
    )
    axes = figure.subplots()
    for (layer, top), (head, left) in itertools.product(enumerate(rows), enumerate(columns)):
        one = shades(weights[layer, head], bytes=True)
        one[later] = _GREY
        picture[top : top + T, left : left + T] = one
        axes.add_patch(
            Rectangle((left - 0.5, top - 0.5), T, T, fill=False, linewidth=0.6, clip_on=False)
        )
    axes.imshow(picture, interpolation="nearest")
    shown, places, size = (
        [make_drawable(label) for label in labels],
        np.arange(T),
        7 * inch / _INCHES,
    )
    axes.set_xticks(
        (columns[:, None] + places).ravel(), shown * H, rotation=90, fontsize=size, parse_math=False
    )
    axes.set_yticks((rows[:, None] + places).ravel(), shown * L, fontsize=size, parse_math=False)
    middle = (T - 1) / 2
    above, beside = axes.secondary_xaxis("top"), axes.secondary_yaxis("right")
    above.set_xticks(columns + middle, [f"head {head}" for head in range(H)])
    beside.set_yticks(
        rows + middle, [f"layer {layer}" for layer in range(L)], rotation=90, va="center"
    )
    for side in (axes, above, beside):
        side.tick_params(length=0)
        for spine in side.spines.values():
            spine.set_visible(False)
    axes.set_xlabel("the token that is looked at")
    axes.set_ylabel("the token that looks")
    figure.colorbar(
        ScalarMappable(cmap=shades),
        ax=axes,
        shrink=0.5,
        aspect=30,
        label="attention weight; a row sums to 1",
    )
    return figure
