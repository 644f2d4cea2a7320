"""Damaged files by the million: python tests/bench/fuzz.py --count 1000000 [--target bundle] [--seed 1]

An input that is neither read nor refused ends it, named by target, seed and number; --first repeats it.
"""

import sys
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent.parent.parent))  # a script sees only its own directory

from tests.support import bridge_targets, checkpoint_targets, fuzzing, targets

TARGETS = targets.TARGETS | bridge_targets.TARGETS | checkpoint_targets.TARGETS


@click.command()
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    help="Inputs a target.",
)
@click.option(
    "--target", type=click.Choice(list(TARGETS)), multiple=True, help="Only this reader [all]."
)
@click.option("--seed", type=int, default=1, show_default=True, help="The tests have seed 0.")
@click.option(
    "--first",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Number of the first input.",
)
def main(count: int, target: tuple[str, ...], seed: int, first: int) -> None:
    """Attack, and print a line for each reader."""
    for name in target or TARGETS:
        inputs = max(1, round(count * TARGETS[name].share))
        found = fuzzing.attack(name, TARGETS[name], inputs, seed, first)
        became = f"{found.accepted:9,} accepted, {found.refused:9,} refused"
        click.echo(f"{name:14} {inputs:9,} inputs: {became}, {found.seconds:.1f} s")


if __name__ == "__main__":
    main()
