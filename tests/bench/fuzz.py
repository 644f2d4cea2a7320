"""Feed millions of damaged files to the readers.

python tests/bench/fuzz.py --count 1000000 [--target bundle] [--seed 1]

It stops at an input that is neither accepted nor refused, and names its target, seed and number.
--first starts at that number.
"""

import sys
from pathlib import Path

import click

sys.path.append(str(Path(__file__).parents[2]))

from tests.support import bridge_targets, checkpoint_targets, data_targets, targets
from tests.support.fuzzing import attack

TARGETS = (
    targets.TARGETS | data_targets.TARGETS | bridge_targets.TARGETS | checkpoint_targets.TARGETS
)


@click.command()
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    help="Inputs per target.",
)
@click.option(
    "--target",
    "names",
    type=click.Choice(list(TARGETS)),
    multiple=True,
    help="Only this target [all].",
)
@click.option("--seed", type=int, default=1, show_default=True, help="The tests use seed 0.")
@click.option(
    "--first",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Number of the first input.",
)
def main(count: int, names: tuple[str, ...], seed: int, first: int) -> None:
    """Attack every target, and print a line for each."""
    for name in names or TARGETS:
        target = TARGETS[name]
        inputs = max(1, round(count * target.share))
        outcome = attack(name, target, inputs, seed, first)
        counts = f"{outcome.accepted:9,} accepted, {outcome.refused:9,} refused"
        click.echo(f"{name:14} {inputs:9,} inputs: {counts}, {outcome.seconds:.1f} s")


if __name__ == "__main__":
    main()
