"""The program `python -m valyrian_jax`: a group of all its commands."""

import click

from valyrian_jax.cli.language_commands import check, corpus, language
from valyrian_jax.cli.options import completion_help, version_option
from valyrian_jax.cli.run_commands import evaluate, plot, sample
from valyrian_jax.cli.tokenizer_commands import tokenizer
from valyrian_jax.cli.train_command import train


@click.group(
    commands=[check, corpus, evaluate, language, plot, sample, tokenizer, train],
    epilog=completion_help("valyrian"),
)
@version_option
def main() -> None:
    """Work with a small GPT for High Valyrian, written in JAX.

    Commands that take a RUN use the newest run under runs/ if you name none, and the model that
    ships with this package if there is no run. `train`, or `python train.py`, trains a model.
    """
