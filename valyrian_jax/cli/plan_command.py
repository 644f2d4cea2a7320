"""The command `plan`: what a run costs on some GPUs, before anything is allocated."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from valyrian_jax.cli.options import INPUT, json_option
from valyrian_jax.cli.run_options import collect_overrides, config_options
from valyrian_jax.cli.tables import new_table, print_table
from valyrian_jax.cli.train_command import TrainCommand
from valyrian_jax.config import load_config
from valyrian_jax.tokenizer.display import format_size

if TYPE_CHECKING:  # It imports JAX.
    from valyrian_jax.planning.plan import Hardware, Layout, Plan

_POSITIVE = click.FloatRange(min=0, min_open=True)
_SHORT_STEP = 0.005  # seconds; the default model, with 0.03 ms of arithmetic, takes 0.9 on an H100


@click.command(cls=TrainCommand, epilog="Example: python -m valyrian_jax plan --config gpt2-124m")
@click.option(
    "--config", "config_file", type=INPUT, help="TOML file of settings, or a preset by its name."
)
@click.option(
    "--device", "card", metavar="NAME", default="h100", show_default=True, help="GPU, such as a100."
)
@click.option(
    "--devices",
    type=click.IntRange(1, 1 << 16),
    default=1,
    show_default=True,
    help="Number of GPUs.",
)
@click.option(
    "--mfu",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.4,
    show_default=True,
    help="Share of the GPU's peak to expect, as train/mfu in metrics.jsonl.",
)
@click.option(
    "--disk",
    type=_POSITIVE,
    default=1.0,
    show_default=True,
    help="Speed at which checkpoints are written, in GB/s.",
)
@click.option(
    "--network",
    type=_POSITIVE,
    default=50.0,
    show_default=True,
    help="Speed between machines of eight GPUs, in GB/s for each GPU.",
)
@json_option
@config_options
def plan(
    config_file: Path | None,
    card: str,
    devices: int,
    mfu: float,
    disk: float,
    network: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Print what a run costs: memory, speed, hours, checkpoints and communication.

    Memory and operations follow from the configuration. The speed is an assumption, --mfu; measure
    a short run to replace it. No text, no GPU and no shards are needed.
    """
    overrides = collect_overrides(options)
    from valyrian_jax.planning.cards import find_card
    from valyrian_jax.planning.plan import Hardware, make_plan

    hardware = Hardware(find_card(card), devices, mfu, disk, network)
    run_plan = make_plan(load_config(config_file, overrides), hardware)
    if as_json:
        click.echo(json.dumps(plan_record(run_plan, hardware)))
        return
    print_table(plan_table(run_plan, hardware))
    for line in describe_advice(run_plan):
        click.echo(click.wrap_text(line, 80))


def plan_record(plan: "Plan", hardware: "Hardware") -> dict[str, Any]:
    """Return a plan as plain values."""
    layouts = ("layout", "with_remat", "recommended")
    record = {name: value for name, value in plan._asdict().items() if name not in layouts}
    for name in layouts:
        layout: Layout | None = getattr(plan, name)
        record[name] = layout and {
            **layout._asdict(),
            "mesh": dataclasses.asdict(layout.mesh),
            "memory": {**layout.memory._asdict(), "training": layout.memory.training},
            "traffic": layout.traffic._asdict(),
        }
    assumed = {name: value for name, value in hardware._asdict().items() if name != "card"}
    return {"device": hardware.card.kind, **assumed, "fits": plan.fits, **record}


def plan_table(plan: "Plan", hardware: "Hardware") -> Any:
    """Return a plan as a table."""
    layout, size = plan.layout, format_size
    table = new_table("", f"{hardware.devices} x {hardware.card.kind}")
    remat, other = ("with remat", "without remat")[:: 1 if layout.remat else -1]
    for name, value in {
        "parameters": f"{plan.parameters:,}",
        "tokens": f"{plan.tokens:,}",
        "computation": f"{plan.flops_per_token / 1e9:.3f} GFLOP/token",
        "mesh": describe_mesh(layout),
        f"memory {remat}": describe_memory(layout),
        f"memory {other}": describe_memory(plan.with_remat),
        "usable memory": f"{size(plan.usable_bytes)} of {hardware.card.memory:g} GB",
        "speed": f"{plan.tokens_per_second:,.0f} tokens/s, if MFU is {hardware.mfu:.0%}",
        "time": f"{plan.hours:,.1f} hours" if plan.hours >= 1 else f"{60 * plan.hours:.1f} minutes",
        "checkpoint": f"{size(plan.checkpoint_bytes)}, {plan.checkpoint_seconds:.1f} s each, "
        f"{plan.checkpoints} of them",
        "network": describe_network(layout),
        "recommended": describe_settings(plan.recommended) if plan.recommended else "nothing fits",
    }.items():
        table.add_row(name, value)
    return table


def describe_mesh(layout: "Layout") -> str:
    """Describe the mesh of a layout and its microbatches."""
    sizes = dataclasses.asdict(layout.mesh).items()
    axes = " x ".join(f"{axis} {size}" for axis, size in sizes)
    return f"{axes}; accumulate {layout.accumulate}"


def describe_network(layout: "Layout") -> str:
    """Describe what the devices send to each other in a step."""
    if not any(layout.traffic):
        return "none"
    share = layout.network_seconds / layout.seconds
    sent = format_size(sum(layout.traffic))
    return f"{sent} a step from each device, {share:.1%} of the time if nothing hides it"


def describe_memory(layout: "Layout") -> str:
    """Describe the memory of a training step on one device."""
    memory = layout.memory
    temporary = memory.training - memory.weights - memory.optimizer
    return (
        f"{format_size(memory.training)}: weights {format_size(memory.weights)}, optimizer "
        f"{format_size(memory.optimizer)}, activations and gradients {format_size(temporary)}"
    )


def describe_settings(layout: "Layout") -> str:
    """Return the options of `train` that choose a layout."""
    sizes = dataclasses.asdict(layout.mesh).items()
    mesh = " ".join(f"--mesh.{axis} {size}" for axis, size in sizes)
    remat = str(layout.remat).lower()
    return f"{mesh} --train.accumulate {layout.accumulate} --train.remat {remat}"


def describe_advice(plan: "Plan") -> list[str]:
    """Say that the model does not fit, that another layout is faster, or that steps are short."""
    from valyrian_jax.planning.plan import SAME_SPEED

    best, needed = plan.recommended, format_size(plan.layout.memory.training)
    if not plan.fits:
        return [
            f"warning: this does not fit: a step needs {needed} on each device, and "
            f"{format_size(plan.usable_bytes)} are usable; "
            + (
                f"train with {describe_settings(best)}"
                if best
                else "use more devices, or a smaller model or batch"
            )
        ]
    if best and plan.layout.seconds > (1 + SAME_SPEED) * best.seconds:
        share = plan.layout.seconds / best.seconds - 1
        return [f"the recommended settings are {share:.0%} faster"]
    if plan.layout.seconds < _SHORT_STEP:
        return [
            f"a step of {1000 * plan.layout.seconds:.2g} ms would be shorter than starting its "
            "operations takes, so expect a lower speed: measure a short run"
        ]
    return []
