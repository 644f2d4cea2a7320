"""The program `python -m valyrian_jax`: a group of all its commands."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, cast

import click

from valyrian_jax.cli.entry_point import completion_help, version_option
from valyrian_jax.errors import UserError

# Where each command is, and the first sentence of its help.
_COMMANDS = {
    "check": ("language_commands.check", "Check every sentence of a text against the grammar."),
    "corpus": (
        "language_commands.corpus",
        "Generate paragraphs of High Valyrian from the grammar.",
    ),
    "eval": (
        "run_commands.evaluate",
        "Evaluate the best weights of a run on its held-out text, or on any text.",
    ),
    "gloss": (
        "word_commands.gloss",
        "Print under every word of a text what it is and what it means.",
    ),
    "inspect": (
        "inspect_commands.inspect",
        "Find out which head and which MLP a rule of the grammar needs.",
    ),
    "language": ("word_commands.language", "Print all forms of a word, as `word` does."),
    "pairs": (
        "pair_commands.pairs",
        "Make minimal pairs: a right sentence, and the same with one form wrong.",
    ),
    "plan": (
        "plan_command.plan",
        "Print what a run costs: memory, speed, hours, checkpoints and communication.",
    ),
    "plot": ("run_commands.plot", "Draw losses, learning rate, speed and grammar of runs."),
    "sample": ("run_commands.sample", "Continue a prompt with the best weights of a run."),
    "tokenizer": (
        "tokenizer_commands.tokenizer",
        "Train a tokenizer; turn text into token ids and back.",
    ),
    "train": (
        "train_command.train",
        "Train a GPT on a text and write a run directory with its best weights as a bundle.",
    ),
    "word": (
        "word_commands.word",
        "Look up words in the dictionary, from High Valyrian or from English.",
    ),
}


class _Commands(Mapping[str, click.Command]):
    """The commands by name; each is imported when it is looked up, because imports are slow."""

    def __getitem__(self, name: str) -> click.Command:
        module, _, function = _COMMANDS[name][0].partition(".")
        command: click.Command = getattr(import_module(f"valyrian_jax.cli.{module}"), function)
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)


class Program(click.Group):
    """A group of commands that names the alternatives to `translate`, which it does not have."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of a name."""
        if cmd_name == "translate" and not ctx.resilient_parsing:
            raise UserError(
                "this project has no translator: no command turns sentences into English or back; "
                "use `gloss` for the meaning of each word of a sentence, or `word` for a dictionary"
            )
        return super().get_command(ctx, cmd_name)

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])


@click.group(cls=Program, commands=cast(Any, _Commands()), epilog=completion_help("valyrian"))
@version_option
def main() -> None:
    """Work with a small GPT for High Valyrian, written in JAX.

    Commands that take a RUN use the newest run under runs/ if you name none, and the model that
    ships with this package if there is no run, or if you name it: `sample shipped`. `train`, or
    `python train.py`, trains a model.

    There is no translator; `gloss` and `word` give the meanings of words.
    """
