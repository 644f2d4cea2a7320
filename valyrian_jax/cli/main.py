"""The program `python -m valyrian_jax`: a group of all its commands."""

import click

from valyrian_jax.cli.language_commands import check, corpus
from valyrian_jax.cli.options import completion_help, version_option
from valyrian_jax.cli.run_commands import evaluate, plot, sample
from valyrian_jax.cli.tokenizer_commands import tokenizer
from valyrian_jax.cli.train_command import train
from valyrian_jax.cli.word_commands import gloss, language, word
from valyrian_jax.errors import UserError


class Program(click.Group):
    """A group of commands that says what a command does that one would expect, and it lacks."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command.

        Raises:
            UserError: It is `translate`.
        """
        if cmd_name == "translate" and not ctx.resilient_parsing:
            raise UserError(
                "this project has no translator: no command turns sentences into English or back; "
                "use `gloss` for the meaning of each word of a sentence, or `word` for a dictionary"
            )
        return super().get_command(ctx, cmd_name)


@click.group(
    cls=Program,
    commands=[check, corpus, evaluate, gloss, language, plot, sample, tokenizer, train, word],
    epilog=completion_help("valyrian"),
)
@version_option
def main() -> None:
    """Work with a small GPT for High Valyrian, written in JAX.

    Commands that take a RUN use the newest run under runs/ if you name none, and the model that
    ships with this package if there is no run, or if you name it: `sample shipped`. `train`, or
    `python train.py`, trains a model.

    There is no translator; `gloss` and `word` give the meanings of words.
    """
