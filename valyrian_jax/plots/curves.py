"""The curves of one run or several: losses above the entropy of the source, and small panels.

The colours are those of Okabe and Ito (2008), which colour-blind readers can distinguish. Runs
differ in their markers too.
"""

from array import array
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from valyrian_jax.errors import UserError, escape
from valyrian_jax.files import replace_file
from valyrian_jax.plots.figures import escape_missing_glyphs, save_figure
from valyrian_jax.run_directory import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]  # steps, values

TRAIN, HELD_OUT, BITS = "train/loss", "held_out/nats_per_token", "held_out/bits_per_byte"
ENTROPY = "held_out/entropy_bits_per_byte"
_COLOURS = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"
_MARKERS = "osD^vPX"
_MIN_UNMARKED = 30  # points; a shorter line has markers
_MAX_POINTS = 500  # points of a line; neighbours of a longer one are averaged


class Panel(NamedTuple):
    """A small panel below the losses."""

    title: str
    scale: float = 1.0  # from the logged value to the unit in the title
    top: float | None = None  # upper limit of the axis


PANELS = {
    "train/learning_rate": Panel("learning rate"),
    "train/tokens_per_second": Panel("thousand tokens/s", scale=1e-3),
    "samples/grammatical": Panel("grammatical sentences (%)", scale=100.0, top=100.0),
}


class Curves(NamedTuple):
    """The curves of a run."""

    name: str
    points: dict[str, Points]  # by key in metrics.jsonl; losses are in nats per token
    bits: float | None  # per byte, for one nat per token; None before the first evaluation


def read_curves(run: Path) -> Curves:
    """Read the curves of a run from its metrics.jsonl."""
    numbers = {key: array("d") for key in (TRAIN, HELD_OUT, BITS, ENTROPY, *PANELS)}
    for record in read_metrics(run):
        for key, pairs in numbers.items():
            if (value := record.get(key)) is not None:
                pairs.extend((record["step"], value))
    points: dict[str, Points] = {}
    for key, pairs in numbers.items():
        if pairs:
            steps, values = np.array(pairs).reshape(-1, 2).T
            points[key] = steps, values
    if not {TRAIN, HELD_OUT} & points.keys():
        raise UserError(
            f"{run} has no losses to draw: expected some in its metrics.jsonl; train the run first"
        )
    is_evaluated = HELD_OUT in points and BITS in points and points[HELD_OUT][1][-1] > 0
    bits = float(points[BITS][1][-1] / points[HELD_OUT][1][-1]) if is_evaluated else None
    return Curves(escape(run.resolve().name), points, bits)


def draw_curves(runs: Sequence[Curves]) -> "Figure":
    """Draw the curves of one run or several in one figure.

    Losses are in bits per byte, which do not depend on the tokenizer, if every run has been
    evaluated, and in nats per token otherwise.
    """
    from matplotlib.figure import Figure  # importing it takes half a second; training need not wait

    keys = [key for key in PANELS if any(key in run.points for run in runs)]
    figure = Figure(figsize=(8, 6), layout="constrained")
    rows: list[Any] = [["loss"] * len(keys), keys] if keys else [["loss"]]
    panels = figure.subplot_mosaic(rows, height_ratios=[2, 1][: len(rows)])
    _draw_losses(panels["loss"], runs)
    for key in keys:
        _draw_panel(panels[key], key, runs)
    for axes in panels.values():
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    is_single = len(runs) == 1
    title = (
        escape_missing_glyphs(runs[0].name) if is_single else f"{len(runs)} runs; thin: training"
    )
    figure.suptitle(title, parse_math=False)
    return figure


def _draw_losses(axes: "Axes", runs: Sequence[Curves]) -> None:
    """Draw training and held-out losses, and the entropy, which is the lower bound of the loss."""
    in_bits = all(run.bits for run in runs)
    limits, floors = list[float](), set[float]()
    for i, run in enumerate(runs):
        scale = run.bits if in_bits and run.bits else 1.0
        if TRAIN in run.points:
            limits += _draw_training_loss(axes, runs, i, scale)
        if HELD_OUT in run.points:
            limits += _draw_held_out_loss(axes, runs, i, scale)
        if ENTROPY in run.points and in_bits:
            floors.add(float(run.points[ENTROPY][1][-1]))
    for floor in sorted(floors):
        label = f"entropy of the source, {floor:.4f} bits per byte"
        axes.axhline(floor, color="black", linestyle="--", linewidth=1.2, label=label)
    low, high = min([*floors, *limits]), max(limits)
    margin = 0.05 * (high - low)
    axes.set_ylim(low - margin - 1e-3, high + margin + 1e-3)
    axes.set_ylabel("loss (bits per byte)" if in_bits else "loss (nats per token)")
    if len(runs) == 1 and in_bits:
        bits = runs[0].bits or 1.0
        right = axes.secondary_yaxis(
            "right", functions=(partial(np.multiply, 1 / bits), partial(np.multiply, bits))
        )
        right.set_ylabel("nats per token")
    for text in axes.legend().get_texts():
        text.set_parse_math(False)  # the name of a run may contain a dollar sign


def _draw_training_loss(
    axes: "Axes", runs: Sequence[Curves], i: int, scale: float
) -> tuple[float, float]:
    """Draw the thin line of run i, and return the range of values that must be visible."""
    is_single, name = len(runs) == 1, escape_missing_glyphs(runs[i].name)
    steps, values = thin_points(runs[i].points[TRAIN])
    label = "" if HELD_OUT in runs[i].points else f"training, {name}"
    style = _choose_style(i, len(steps)) | ({"color": _COLOURS[-1]} if is_single else {})
    label = "training" if is_single else label
    axes.plot(steps, values * scale, alpha=0.4, linewidth=0.8, markersize=3, label=label, **style)
    # The initial fall and spikes would leave no room for the rest.
    late = values[steps >= steps[-1] / 20] * scale
    return late.min(), np.quantile(late, 0.99)


def _draw_held_out_loss(
    axes: "Axes", runs: Sequence[Curves], i: int, scale: float
) -> tuple[float, float]:
    """Draw the held-out loss of run i, and return the range of its values."""
    steps, values = runs[i].points[HELD_OUT]
    name = escape_missing_glyphs(runs[i].name)
    label = "held out" if len(runs) == 1 else f"held out, {name}"
    axes.plot(steps, values * scale, markersize=5, label=label, **_choose_style(i, 0))
    return values.min() * scale, values.max() * scale


def _draw_panel(axes: "Axes", key: str, runs: Sequence[Curves]) -> None:
    panel = PANELS[key]
    for i, run in enumerate(runs):
        if key in run.points:
            steps, values = thin_points(run.points[key])
            style = _choose_style(i, len(steps))
            axes.plot(steps, values * panel.scale, markersize=4, linewidth=1.2, **style)
    axes.set_title(panel.title, fontsize="medium")
    axes.set_ylim(0, panel.top)


def thin_points(points: Points) -> Points:
    """Return at most `_MAX_POINTS` points: the means of equal groups of neighbours."""
    size = -(-len(points[0]) // _MAX_POINTS)
    starts = np.arange(0, len(points[0]), size)
    counts = np.diff(starts, append=len(points[0]))
    steps, values = (np.add.reduceat(numbers, starts) / counts for numbers in points)
    return steps, values


def _choose_style(i: int, points: int) -> dict[str, Any]:
    """Return the colour of run i, and its marker if a line has few points."""
    marker = _MARKERS[(i + i // len(_COLOURS)) % len(_MARKERS)]
    colour = _COLOURS[i % len(_COLOURS)]
    return {"color": colour, "marker": marker if points < _MIN_UNMARKED else ""}


def save_loss_plot(run: Path) -> list[Path]:
    """Draw a run into its loss.png and loss.svg."""
    return save_figure(draw_curves([read_curves(run)]), run / "loss", replace_file)
