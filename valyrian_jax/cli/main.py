"""The program `python -m valyrian_jax`: a group of all its commands."""

import click

from valyrian_jax.cli.language_commands import check, corpus, language
from valyrian_jax.cli.run_commands import evaluate, plot, sample
from valyrian_jax.cli.tokenizer_commands import tokenizer


@click.group(commands=[check, corpus, evaluate, language, plot, sample, tokenizer])
def main() -> None:
    """Work with a small GPT for High Valyrian, written in JAX.

    Train a model first with `python train.py`. Commands that take a RUN use the newest run under
    runs/ if you name none. Add --debug to any command to see the traceback of an error.
    """
