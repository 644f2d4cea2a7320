"""Train a model: arguments -> configuration -> valyrian_jax.training.run.train."""

from pathlib import Path
from typing import Any

import click

from valyrian_jax.cli.options import collect_overrides, config_options, run_command
from valyrian_jax.config import load_config
from valyrian_jax.errors import UserError

_OURS = (
    "model.dropout",
    "model.vocab_multiple",
    "model.n_positions",
)  # what a bundle does not bring, or can be cut to
FILE, DIRECTORY = click.Path(path_type=Path), click.Path(path_type=Path, file_okay=False)


@click.command(
    params=config_options(),
    epilog="Example: python train.py --config configs/tiny.toml --optim.lr 1e-3",
)
@click.option("--config", "config_file", type=FILE, help="A TOML file of settings [all defaults].")
@click.option("--out", type=DIRECTORY, help="Directory of the new run [runs/<date and time>].")
@click.option("--resume", type=DIRECTORY, help="Go on with this run from its newest checkpoint.")
@click.option(
    "--init",
    type=DIRECTORY,
    help="Start from this bundle: its weights, tokenizer and model, whose context may be cut.",
)
@click.option(
    "--coordinator",
    metavar="HOST:PORT",
    help="Several processes: where the first one waits for the others.",
)
@click.option("--processes", type=click.IntRange(min=1), help="Several processes: how many.")
@click.option(
    "--process", type=click.IntRange(min=0), help="Several processes: which this one is, from 0."
)
@click.option("--deterministic", is_flag=True, help="The same as --train.deterministic true.")
def main(
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
    """Train a GPT on a text and leave a run directory with its best weights as a bundle."""
    overrides = collect_overrides(options) | (
        {"train.deterministic": True} if deterministic else {}
    )
    if resume and (config_file or out or init):
        raise UserError(
            "--resume takes everything from the run: leave out --config, --out and --init"
        )
    for key in overrides if init else ():
        if key == "data.tokenizer" or (key.startswith("model.") and key not in _OURS):
            raise UserError(
                f"--{key} cannot be chosen with --init, which brings model and tokenizer; leave it out"
            )
    from valyrian_jax.training import distributed
    from valyrian_jax.training.resume import load_resume_config
    from valyrian_jax.training.run import train  # after the arguments: importing JAX takes a second

    settings = (
        load_resume_config(resume, overrides) if resume else load_config(config_file, overrides)
    )
    with distributed.initialize(coordinator, processes, process):
        train(settings, out, resume, init, overrides.get("model.n_positions") if init else None)


if __name__ == "__main__":
    run_command(main)
