"""The command `train`: arguments -> start of a run -> valyrian_jax.training.run.train."""

from pathlib import Path
from typing import Any

import click

from valyrian_jax.bundle.shipped_model import SHIPPED_HINT
from valyrian_jax.cli.options import INPUT, LocalPath
from valyrian_jax.cli.run_options import collect_overrides, config_options

DIRECTORY = LocalPath(path_type=Path, file_okay=False)


_OFTEN_USED = ("data.path", "train.steps", "model.n_embd", "model.n_layer", "model.n_positions")
_SEVERAL = "Several devices and processes"
_HEADINGS = {
    "data": "Text",
    "model": "Model",
    "optim": "Optimizer",
    "train": "Training",
    "sample": "Samples during training",
    "wandb": "Weights & Biases",
    **dict.fromkeys(("mesh", "coordinator", "processes", "process"), _SEVERAL),
}
"""Heading in the help by section of the configuration, or by option."""


class TrainCommand(click.Command):
    """A command whose help begins with what most runs need, and lists the rest by topic."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, below a heading for each topic."""
        topics: dict[str, list[tuple[str, str]]] = {"Options": []}
        topics |= {heading: [] for heading in _HEADINGS.values()}
        for param in self.get_params(ctx):
            name = param.opts[0].removeprefix("--")
            is_first = name in _OFTEN_USED
            heading = "" if is_first else _HEADINGS.get(name.partition(".")[0], "")
            if record := param.get_help_record(ctx):
                topics[heading or "Options"].append(record)
        for heading, records in topics.items():
            with formatter.section(heading):
                formatter.write_dl(records)


@click.command(cls=TrainCommand, epilog="Example: python -m valyrian_jax train --config tiny")
@click.option(
    "--config",
    "config_file",
    type=INPUT,
    help="TOML file of settings, or a preset such as quick or tiny.",
)
@click.option(
    "--out",
    type=DIRECTORY,
    show_default="runs/<date and time>",
    help="Directory of the new run.",
)
@click.option(
    "--resume",
    type=DIRECTORY,
    help="Resume this run from its newest checkpoint. auto: resume the run in --out, or start it "
    "there; for schedulers that restart a job with the same command.",
)
@click.option(
    "--init",
    type=INPUT,
    help="Start from the weights, tokenizer and model of this run or bundle; --model.n_positions "
    f"can shorten its context. {SHIPPED_HINT}.",
)
@click.option(
    "--coordinator",
    metavar="HOST:PORT",
    help="With several processes: address of process 0, which the others connect to.",
)
@click.option(
    "--processes", type=click.IntRange(min=1), help="With several processes: their number."
)
@click.option(
    "--process",
    type=click.IntRange(min=0),
    help="With several processes: the number of this one, from 0.",
)
@click.option("--deterministic", is_flag=True, help="The same as --train.deterministic true.")
@config_options
def train(
    config_file: Path | None,
    out: Path | None,
    resume: Path | None,
    init: Path | None,
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    deterministic: bool,
    **options: Any,
) -> None:
    """Train a GPT on a text and write a run directory with its best weights as a bundle.

    Ctrl-C, SIGTERM and SIGHUP (a closed terminal) save and end the run; --resume continues it.
    SIGUSR1 saves, and the run continues.
    """
    from valyrian_jax.training.start_options import resolve_start

    overrides = collect_overrides(options)
    if deterministic:
        overrides["train.deterministic"] = True
    start = resolve_start(overrides, config_file, out, init, resume)
    # Importing JAX takes a second, so mistakes in the arguments are reported first.
    from valyrian_jax.training import distributed, run

    with distributed.initialize(coordinator, processes, process):
        run.train(*start)
