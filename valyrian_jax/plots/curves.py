"""The picture of a run, or of several at once: losses above the entropy of the source, and what went with them.

Colours are those of Okabe and Ito (2008), which colour-blind readers can tell apart; runs differ by marker too.
"""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from valyrian_jax.errors import UserError
from valyrian_jax.run_directory import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]  # steps, values

TRAIN, HELD_OUT, BITS = "train/loss", "held_out/nats_per_token", "held_out/bits_per_byte"
ENTROPY = "held_out/entropy_bits_per_byte"
BELOW: dict[
    str, tuple[str, float, float | None]
] = {  # the small panels: key -> title, factor to the unit in it, top of the axis
    "train/learning_rate": ("learning rate", 1.0, None),
    "train/tokens_per_second": ("thousand tokens/s", 1e-3, None),
    "samples/grammatical": ("grammatical sentences (%)", 100.0, 100.0),
}
_COLOURS = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"
_MARKERS = "osD^vPX"
_FEW = 30  # points: fewer are marked
_MOST = 500  # points of a line; of more, neighbours are averaged


class Curves(NamedTuple):
    """What is drawn of a run.

    Attributes:
        name: of the run.
        points: by their name in metrics.jsonl; losses are in nats per token.
        bits: bits per byte for a nat per token, by the run's tokenizer on its held-out text; None: not known.
    """

    name: str
    points: dict[str, Points]
    bits: float | None


def read_curves(run: Path) -> Curves:
    """The curves of a run, from its metrics.jsonl.

    Raises:
        UserError: there are no losses in it.
    """
    records = list(read_metrics(run))
    points = {}
    for key in (TRAIN, HELD_OUT, BITS, ENTROPY, *BELOW):
        found = [
            (record["step"], value) for record in records if (value := record.get(key)) is not None
        ]
        if found:
            steps, values = np.array(found, float).T
            points[key] = steps, values
    if not {TRAIN, HELD_OUT} & points.keys():
        raise UserError(
            f"{run} has no losses to draw yet: its metrics.jsonl is missing or holds none"
        )
    known = HELD_OUT in points and BITS in points and points[HELD_OUT][1][-1] > 0
    bits = float(points[BITS][1][-1] / points[HELD_OUT][1][-1]) if known else None
    name = os.fsencode(run.resolve().name).decode("utf-8", "replace")
    return Curves(name, points, bits)


def draw_curves(drawn: Sequence[Curves]) -> "Figure":
    """One figure of one or more runs.

    Losses are in bits per byte, which do not depend on the tokenizer, if every run has been evaluated; else in nats
    per token.
    """
    from matplotlib.figure import (
        Figure,
    )  # here, because it takes half a second that training need not wait for

    below = [key for key in BELOW if any(key in curve.points for curve in drawn)]
    figure = Figure(figsize=(8, 6), layout="constrained")
    rows: list[Any] = [["loss"] * len(below), below] if below else [["loss"]]
    panels = figure.subplot_mosaic(rows, height_ratios=[2, 1][: len(rows)])
    _draw_losses(panels["loss"], drawn)
    for key in below:
        _draw_below(panels[key], key, drawn)
    for axes in panels.values():
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    title = (
        make_drawable(drawn[0].name) if len(drawn) == 1 else f"{len(drawn)} runs; thin: training"
    )
    figure.suptitle(title, parse_math=False)
    return figure


def _draw_losses(axes: "Axes", drawn: Sequence[Curves]) -> None:
    """Training and held-out losses, and what no model of the source can go below."""
    in_bits = all(curve.bits for curve in drawn)
    one, seen, floors = len(drawn) == 1, list[float](), set[float]()
    for i, curve in enumerate(drawn):
        unit = curve.bits if in_bits and curve.bits else 1.0
        if TRAIN in curve.points:
            steps, values = thin_points(curve.points[TRAIN])
            colour = _COLOURS[-1] if one else _colour(i)
            named = (
                "training"
                if one
                else ""
                if HELD_OUT in curve.points
                else f"training, {make_drawable(curve.name)}"
            )
            few = _marker(i) if len(steps) < _FEW else ""
            axes.plot(
                steps,
                values * unit,
                color=colour,
                alpha=0.4,
                linewidth=0.8,
                marker=few,
                markersize=3,
                label=named,
            )
            later = (
                values[steps >= steps[-1] / 20] * unit
            )  # the first fall would leave no room for the rest,
            seen += [later.min(), np.quantile(later, 0.99)]  # nor would a spike
        if HELD_OUT in curve.points:
            steps, values = curve.points[HELD_OUT]
            label = "held out" if one else f"held out, {make_drawable(curve.name)}"
            axes.plot(
                steps, values * unit, color=_colour(i), marker=_marker(i), markersize=5, label=label
            )
            seen += [values.min() * unit, values.max() * unit]
        if ENTROPY in curve.points and in_bits:
            floors.add(float(curve.points[ENTROPY][1][-1]))
    for floor in sorted(floors):
        label = f"entropy of the source, {floor:.4f} bits per byte"
        axes.axhline(floor, color="black", linestyle="--", linewidth=1.2, label=label)
    low, high = min([*floors, *seen]), max(seen)
    axes.set_ylim(low - 0.05 * (high - low) - 1e-3, high + 0.05 * (high - low) + 1e-3)
    axes.set_ylabel("loss (bits per byte)" if in_bits else "loss (nats per token)")
    if one and in_bits:
        bits = drawn[0].bits or 1.0
        right = axes.secondary_yaxis(
            "right", functions=(partial(np.multiply, 1 / bits), partial(np.multiply, bits))
        )
        right.set_ylabel("nats per token")
    for text in axes.legend().get_texts():
        text.set_parse_math(False)  # a name may have a dollar sign


def _draw_below(axes: "Axes", key: str, drawn: Sequence[Curves]) -> None:
    """One of the small panels."""
    name, unit, top = BELOW[key]
    for i, curve in enumerate(drawn):
        if key in curve.points:
            steps, values = thin_points(curve.points[key])
            few = _marker(i) if len(steps) < _FEW else ""
            axes.plot(
                steps, values * unit, color=_colour(i), marker=few, markersize=4, linewidth=1.2
            )
    axes.set_title(name, fontsize="medium")
    axes.set_ylim(0, top)


def thin_points(points: Points) -> Points:
    """At most as many points as can be told apart: the means of equal groups of neighbours."""
    size = -(-len(points[0]) // _MOST)
    groups = np.arange(0, len(points[0]), size)
    counts = np.diff(groups, append=len(points[0]))
    steps, values = (np.add.reduceat(numbers, groups) / counts for numbers in points)
    return steps, values


def _colour(run: int) -> str:
    return _COLOURS[run % len(_COLOURS)]


def _marker(run: int) -> str:
    return _MARKERS[(run + run // len(_COLOURS)) % len(_MARKERS)]


def make_drawable(text: str) -> str:
    """A text without letters that the font lacks, which would all be the same empty box: with their numbers instead."""
    from matplotlib import font_manager

    known = font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap()
    return "".join(
        c if ord(c) in known else c.encode("ascii", "backslashreplace").decode() for c in text
    )


def save_figure(figure: "Figure", path: Path) -> list[Path]:
    """Write a figure as PNG and as SVG, both under one name: `path` with these suffixes.

    Raises:
        UserError: the name is none.
        OSError: they cannot be written.
    """
    import matplotlib

    path = path.with_suffix("") if path.suffix.lower() in (".png", ".svg") else path
    if path.name in ("", ".."):
        raise UserError(
            f"{path} is a directory; expected the name of a file in it, without .png and .svg"
        )
    files = [path.with_name(path.name + suffix) for suffix in (".png", ".svg")]
    with matplotlib.rc_context({"svg.hashsalt": "valyrian"}):  # the same figure, the same file
        figure.savefig(files[0], dpi=150)
        figure.set_layout_engine("none")  # everything has its place by now
        figure.savefig(files[1], metadata={"Date": None})
    return files


def save_loss_plot(run: Path) -> list[Path]:
    """Draw a run into its loss.png and loss.svg.

    Raises:
        UserError: it has no losses yet.
    """
    return save_figure(draw_curves([read_curves(run)]), run / "loss")
