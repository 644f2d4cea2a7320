"""python -m valyrian_jax <command>: the tokenizer, the corpus, samples, evaluation, pictures."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from valyrian_jax import atomic, command, runs
from valyrian_jax.errors import UserError

FILE = command.FILE


@click.group(context_settings={"max_content_width": 100})
def main() -> None:
    """A small GPT for High Valyrian, from scratch, in JAX. RUN is a run directory [the newest under runs/]."""


@main.command(epilog='Example: python -m valyrian_jax corpus --sentences 12000 --seed 1 -o "data/High Valyrian.txt"')
@click.option("--sentences", type=click.IntRange(min=1), default=12000, show_default=True, help="How many sentences.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="The same seed gives the same text."
)
@click.option("-o", "--out", type=FILE, help="File to write [standard output].")
def corpus(sentences: int, seed: int, out: Path | None) -> None:
    """Write paragraphs of High Valyrian drawn from the grammar."""
    from valyrian_jax.language import generate_paragraphs

    text = "\n\n".join(generate_paragraphs(sentences, seed)) + "\n"
    if out is None:
        click.echo(text, nl=False)
    else:
        atomic.write_text(out, text)


@main.command(epilog='Example: python -m valyrian_jax sample --prompt "valar morghulis" --seed 7')
@command.sample_options
def sample(run: Path | None, **options: Any) -> None:
    """Continue a prompt with the best weights of RUN (a run or a bundle directory), streaming.

    A text ends at the end of a document or after --max-new-tokens. Settings not given are those of the run.
    """
    from valyrian_jax import model, sampling

    bundle = runs.load_bundle(run)
    generate = functools.partial(sampling.generate, model.from_tensors(bundle.tensors), bundle.model)
    command.print_samples(bundle, generate, **options)


@main.command("eval", epilog="Example: python -m valyrian_jax eval runs/first --json")
@command.RUN
@command.JSON
def evaluate(run: Path | None, as_json: bool) -> None:
    """Loss of RUN's best weights over the whole held-out part of its text."""
    from valyrian_jax import evaluation

    directory = runs.find(run)
    found = evaluation.evaluate_run(directory)
    if as_json:
        click.echo(json.dumps({"run": str(directory), **found._asdict()}))
    else:
        click.echo(f"{directory}: {found.nats_per_token:.4f} nats/token, {found.bits_per_byte:.4f} bits per byte")


@main.command(epilog="Example: python -m valyrian_jax plot runs/first")
@command.RUN
def plot(run: Path | None) -> None:
    """Draw the loss of RUN into its loss.png."""
    from valyrian_jax import plot as pictures

    click.echo(pictures.save_loss(runs.find(run)))


@main.group()
def tokenizer() -> None:
    """Train a vocabulary, and turn text into token ids and back."""


@tokenizer.command(
    "train", epilog="Example: python -m valyrian_jax tokenizer train text.txt --vocab-size 500 -o tokenizer.json"
)
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option(
    "--vocab-size", type=int, default=500, show_default=True, help="Tokens: 256 bytes, merges, <|endoftext|>."
)
@click.option("-o", "--out", type=FILE, default="tokenizer.json", show_default=True, help="File to write.")
def train_tokenizer(files: tuple[Path, ...], vocab_size: int, out: Path) -> None:
    """Learn a vocabulary of exactly --vocab-size tokens from UTF-8 text FILES."""
    from valyrian_jax.data import read_text
    from valyrian_jax.tokenizer import train_bpe

    trained = train_bpe([read_text(file) for file in files], vocab_size)
    trained.save(out)
    click.echo(f"{out}: {trained.vocab_size} tokens")


@tokenizer.command(epilog="Example: python -m valyrian_jax tokenizer encode tokenizer.json text.txt > ids.txt")
@click.argument("vocabulary", type=FILE)
@click.argument("file", type=click.File("rb"), default="-")
def encode(vocabulary: Path, file: Any) -> None:
    """Print the token ids of FILE [standard input], by the tokenizer.json VOCABULARY, on one line."""
    from valyrian_jax.tokenizer import Tokenizer

    click.echo(" ".join(map(str, Tokenizer.load(vocabulary).encode_bytes(file.read()))))


@tokenizer.command("decode", epilog="Example: python -m valyrian_jax tokenizer decode tokenizer.json ids.txt")
@click.argument("vocabulary", type=FILE)
@click.argument("file", type=click.File("rb"), default="-")
def decode(vocabulary: Path, file: Any) -> None:
    """Print the bytes of the token ids in FILE [standard input], which are separated by white space."""
    from valyrian_jax.tokenizer import Tokenizer

    click.echo(Tokenizer.load(vocabulary).decode_bytes(_numbers(file.read())), nl=False)


def _numbers(text: bytes) -> Iterator[int]:
    for word in text.split():
        if not word.isdigit() or len(word) > 9:
            shown = word[:40].decode("utf-8", "replace")
            raise UserError(f"{shown!r} is not a token id; expected whole numbers separated by white space")
        yield int(word)


if __name__ == "__main__":
    command.run(main)
