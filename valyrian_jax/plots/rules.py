"""The rules of the grammar being learnt: a line for each, in a panel for each family of rules.

A rule counts as learnt from the first evaluation on at which its share of right minimal pairs
reaches `LEARNT` and stays there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from valyrian_jax.errors import UserError
from valyrian_jax.language.pairs.rules import RULES
from valyrian_jax.plots.figures import escape_missing_glyphs
from valyrian_jax.run_directory import read_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEARNT = 0.95
PREFIX = "pairs/"
"""What the keys of rules begin with in metrics.jsonl."""

_COLOURS = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"
_MARKERS = "osD^vPX"
_COLUMNS = 2

Curve = Sequence[tuple[int, float]]  # steps and shares of right pairs


def read_rule_curves(run: Path) -> dict[str, Curve]:
    """Read the accuracy of a run on minimal pairs, by rule.

    Raises:
        UserError: The run has not measured it.
    """
    curves: dict[str, list[tuple[int, float]]] = {}
    for record in read_metrics(run):
        for rule in RULES:
            if (share := record.get(PREFIX + rule)) is not None:
                curves.setdefault(rule, []).append((record["step"], share))
    if not curves:
        raise UserError(
            f"{run} has no minimal pairs to draw: expected some in its metrics.jsonl; train with "
            "--train.pairs 200"
        )
    return {rule: curves[rule] for rule in RULES if rule in curves}


def find_learnt_step(curve: Curve) -> int | None:
    """Return the step from which on a rule counts as learnt; None if it does not at the end."""
    learnt = None
    for step, share in curve:
        if share < LEARNT:
            learnt = None
        elif learnt is None:
            learnt = step
    return learnt


def draw_rules(name: str, curves: Mapping[str, Curve]) -> "Figure":
    """Draw the rules of a run.

    Args:
        name: Name of the run.
        curves: Its curves by rule, at least one.
    """
    from matplotlib.figure import Figure

    families = [*dict.fromkeys(RULES[rule].family for rule in curves)]
    rows = -(-len(families) // _COLUMNS)
    figure = Figure(figsize=(10, 3.4 * rows), layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, family in zip(panels, families, strict=False):
        rules = [rule for rule in curves if RULES[rule].family == family]
        for i, rule in enumerate(rules):
            steps, shares = zip(*curves[rule], strict=True)
            step = find_learnt_step(curves[rule])
            axes.plot(
                steps,
                [100 * share for share in shares],
                color=_COLOURS[i % len(_COLOURS)],
                marker=_MARKERS[i % len(_MARKERS)],
                markersize=4,
                label=f"{rule} ({f'from {step:,}' if step else 'not yet'})",
            )
        axes.axhline(50, color="black", linestyle=":", linewidth=1)
        axes.axhline(100 * LEARNT, color="black", linestyle="--", linewidth=1)
        axes.set_title(family, fontsize="medium")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="x-small", loc="lower right")
    for axes in panels[len(families) :]:
        axes.set_visible(False)
    figure.supxlabel("step")
    figure.supylabel("right minimal pairs (%)")
    title = f"{name}: rules, and the step from which at least {LEARNT:.0%} stay right (dashed)"
    figure.suptitle(escape_missing_glyphs(title), parse_math=False, fontsize="medium")
    return figure
