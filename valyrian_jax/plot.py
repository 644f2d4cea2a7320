"""The picture of a run: loss over steps."""

from pathlib import Path

from valyrian_jax import runs
from valyrian_jax.errors import UserError


def save_loss(run: Path) -> Path:
    """Draw training and held-out loss of a run into its loss.png, and return that path."""
    from matplotlib.figure import Figure  # here, because it takes half a second that training need not wait for

    records = list(runs.read_metrics(run))
    train = [(r["step"], loss) for r in records if (loss := r.get("train/loss")) is not None]
    held_out = [(r["step"], loss) for r in records if (loss := r.get("held_out/nats_per_token")) is not None]
    if not train and not held_out:
        raise UserError(f"{run} has no losses to draw yet: its metrics.jsonl is missing or holds none")
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for points, label, color, marker in (
        (train, "training (with dropout)", "#9ecae1", ""),
        (held_out, "held out", "#d95f02", "o"),
    ):
        if points:
            steps, losses = zip(*points, strict=True)
            axes.plot(steps, losses, label=label, color=color, marker=marker, markersize=4)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")
    axes.set_title(run.name, parse_math=False)
    axes.grid(alpha=0.3)
    axes.legend()
    path = run / "loss.png"
    figure.savefig(path, dpi=120)
    return path
