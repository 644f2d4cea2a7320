"""The picture of attention: for every layer and head, how much each token of a text looks at those before it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from valyrian_jax.bundle import Bundle
from valyrian_jax.errors import UserError
from valyrian_jax.pieces import label
from valyrian_jax.prompt import prompt_tokens

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST = 48  # tokens: more cannot be read
_INCHES = 0.17  # of a token


def of_bundle(bundle: Bundle, text: str) -> "Figure":
    """The attention of a model in a text; see `draw`.

    Raises:
        UserError: the text has too many tokens for the model or for the picture.
    """
    import jax.numpy as jnp

    from valyrian_jax import model

    tokens = prompt_tokens(bundle.tokenizer, text)
    if len(tokens) > bundle.model.n_positions:
        raise UserError(f"the prompt has {len(tokens)} tokens, but the model's context is {bundle.model.n_positions}")
    weights = model.attention(model.from_tensors(bundle.tensors), jnp.asarray([tokens]), bundle.model)
    return draw([label(bundle.tokenizer, token) for token in tokens], np.asarray(weights[:, 0]))


def draw(labels: Sequence[str], weights: npt.NDArray[np.float32]) -> "Figure":
    """A grid of layers (down) by heads (across).

    Args:
        labels: of the T tokens, at most `LARGEST`.
        weights: float32 [L, H, T, T], of query and key; from `valyrian_jax.model.attention`.

    Raises:
        UserError: there are too many tokens.
    """
    if len(labels) > LARGEST:
        raise UserError(f"the prompt has {len(labels)} tokens, of which a map can show {LARGEST}; take a shorter one")
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    L, H, T, _ = weights.shape
    side = max(1.5, _INCHES * T)
    figure = Figure(figsize=(H * side + 2, L * side + 1.5), layout="constrained")
    grid = figure.subplots(L, H, sharex=True, sharey=True, squeeze=False)
    shades = colormaps["Blues"].with_extremes(bad="#d9d9d9")  # grey: what comes later, where no token can look
    later = np.triu(np.ones((T, T), bool), k=1)
    shown = [_drawable(label) for label in labels]
    for (layer, head), axes in np.ndenumerate(grid):
        image = axes.imshow(np.ma.masked_array(weights[layer, head], later), cmap=shades, vmin=0, vmax=1)
        axes.set_xticks(range(T), shown, rotation=90, fontsize=7, parse_math=False)
        axes.set_yticks(range(T), shown, fontsize=7, parse_math=False)
        axes.tick_params(length=2)
        if layer == 0:
            axes.set_title(f"head {head}", fontsize=9)
        if head == 0:
            axes.set_ylabel(f"layer {layer}", fontsize=9)
    figure.supxlabel("the token that is looked at", fontsize=9)
    figure.supylabel("the token that looks", fontsize=9)
    figure.colorbar(image, ax=grid, fraction=0.02, label="attention weight; a row sums to 1")
    return figure


def _drawable(text: str) -> str:
    """A label without letters that the font lacks, which would all be the same empty box."""
    from matplotlib import font_manager

    known = font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap()
    return "".join(c if ord(c) in known else c.encode("ascii", "backslashreplace").decode() for c in text)
