"""The program `python -m valyrian_jax`: a group of all its commands."""

import click

from valyrian_jax.cli.language_commands import check, corpus, language
from valyrian_jax.cli.run_commands import evaluate, plot, sample
from valyrian_jax.cli.tokenizer_commands import tokenizer
from valyrian_jax.cli.train_command import train


@click.group(commands=[check, corpus, evaluate, language, plot, sample, tokenizer, train])
def main() -> None:
    """Work with a small GPT for High Valyrian, written in JAX.

    Train a model first, with `train` or `python train.py`: they are the same. Commands that take a
    RUN use the newest run under runs/ if you name none. Add --debug to any command to see the
    traceback of an error.
    """
