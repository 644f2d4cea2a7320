"""python -m valyrian_jax <command>: the tokenizer, the corpus, samples, evaluation, pictures."""

import functools
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from valyrian_jax.bundle.bundle import load_bundle
from valyrian_jax.cli.options import (
    JSON_OPTION,
    PATH,
    RUN_ARGUMENT,
    SHOW_TOKENS,
    decode_argument,
    print_samples,
    run_command,
    sample_options,
)
from valyrian_jax.errors import UserError
from valyrian_jax.files import write_atomically
from valyrian_jax.run_directory import find_bundle, find_run, load_run_bundle
from valyrian_jax.tokenizer.display import print_tokens

FILE = PATH


@click.group(context_settings={"max_content_width": 100})
def main() -> None:
    """A small GPT for High Valyrian, from scratch, in JAX. RUN is a run directory [the newest under runs/]."""


@main.command(epilog="Example: python -m valyrian_jax corpus --sentences 100 --seed 1 -o more.txt")
@click.option(
    "--sentences",
    type=click.IntRange(min=1),
    default=62000,
    show_default=True,
    help="How many sentences.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="The same seed gives the same text.",
)
@click.option(
    "--exact", type=click.IntRange(min=0), default=0, help="Texts to find the exact entropy of [0]."
)
@click.option(
    "-o",
    "--out",
    type=FILE,
    help="File to write; its entropy goes into a .source.json [standard output].",
)
def corpus(sentences: int, seed: int, exact: int, out: Path | None) -> None:
    """Write paragraphs of High Valyrian drawn from the grammar, and say how much information they hold."""
    from valyrian_jax.data.corpus_entropy import generate_corpus, save_source, source_path

    found = generate_corpus(sentences, seed, exact)
    if out is None:
        click.echo(found.text, nl=False)
    else:
        write_atomically(out, found.text)
        save_source(found.source, source_path(out))
    click.echo(found.summary, err=out is None)


@main.command(epilog="Example: python -m valyrian_jax check poem.txt")
@click.argument("inputs", metavar="[FILE|-]", nargs=-1)
@click.option(
    "--word",
    "words",
    is_flag=True,
    help="The arguments are words, zaldrīzoti say: print what each can be.",
)
@JSON_OPTION
def check(inputs: tuple[str, ...], words: bool, as_json: bool) -> None:
    """Say of every sentence in FILE [standard input] if it is grammatical, and if not, the first reason why not."""
    from valyrian_jax.cli.tables import format_readings, format_verdicts

    if words:
        lines = format_readings(inputs, as_json)
    elif len(inputs) > 1:
        raise UserError(f"expected one file, found {len(inputs)}; for words say --word")
    else:
        with click.open_file(inputs[0] if inputs else "-", "rb") as file:
            lines = format_verdicts(file.read(), as_json)
    for line in lines:
        click.echo(line)


@main.command(epilog="Example: python -m valyrian_jax language --table zaldrīzes")
@click.option("--table", "word", required=True, metavar="WORD", help="A dictionary form.")
@JSON_OPTION
def language(word: str, as_json: bool) -> None:
    """Print all forms of a word. ° = inferred by analogy, — = not established."""
    from valyrian_jax.language.words.paradigm import find_lexemes, format_paradigm, paradigm_record

    lexemes = find_lexemes(unicodedata.normalize("NFC", word))
    if as_json:
        for lexeme in lexemes:
            click.echo(json.dumps(paradigm_record(lexeme), ensure_ascii=False))
    else:
        click.echo("\n\n".join(map(format_paradigm, lexemes)))


@main.command(epilog='Example: python -m valyrian_jax sample --prompt "valar morghulis" --seed 7')
@sample_options
def sample(run: Path | None, **options: Any) -> None:
    """Continue a prompt with the best weights of RUN (a run or a bundle directory), streaming.

    A text ends at the end of a document or after --max-new-tokens. Settings not given are those of the run.
    With --json, --show-tokens adds the list "tokens" to each object.
    """
    from valyrian_jax.generation.generate import stream_tokens
    from valyrian_jax.model.parameters import from_tensors

    best = load_run_bundle(run)
    generate = functools.partial(stream_tokens, from_tensors(best.tensors), best.model)
    print_samples(best, generate, **options)


@main.command("eval", epilog="Example: python -m valyrian_jax eval runs/first --json")
@RUN_ARGUMENT
@click.option(
    "--texts",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Texts to draw and judge.",
)
@JSON_OPTION
def evaluate(run: Path | None, texts: int, as_json: bool) -> None:
    """Judge RUN's best weights: loss over the whole held-out part, and how good the texts are that they write.

    Texts (temperature 1, top-p 0.9, seeds from 0) and distance from the source are only there for generated corpora.
    """
    from valyrian_jax.cli.tables import print_table, report_json, report_table
    from valyrian_jax.evaluation.report import make_report

    directory = find_run(run)
    lines = make_report(directory, texts)
    if as_json:
        click.echo(report_json(directory, lines))
    else:
        click.echo(directory)
        print_table(report_table(lines))


@main.command(epilog="Example: python -m valyrian_jax plot runs/first")
@click.argument("directories", metavar="[RUN]...", nargs=-1, type=FILE)
@click.option(
    "--attention",
    is_flag=True,
    help="Draw, in place of the loss, where each token of --prompt looks.",
)
@click.option("--prompt", "text", help="The text for --attention.")
@click.option(
    "-o",
    "--out",
    type=FILE,
    help="Name of the files, .png and .svg [RUN/loss, of several comparison; RUN/attention].",
)
def plot(
    directories: tuple[Path, ...], attention: bool, text: str | None, out: Path | None
) -> None:
    """Draw what happened in RUN: losses, learning rate, speed, grammar; several runs on top of each other.

    With --attention: a map for every layer and head of its best weights. All as PNG and SVG.
    """
    from valyrian_jax.plots import curves as pictures

    if attention != (text is not None):
        raise click.UsageError("--attention and --prompt TEXT go together")
    if text is None:
        given = [find_run(directory) for directory in directories or [None]]
        figure = pictures.draw_curves([pictures.read_curves(run) for run in given])
        name = given[0] / "loss" if len(given) == 1 else Path("comparison")
    elif len(directories) > 1:
        raise click.UsageError("--attention takes one RUN")
    else:
        from valyrian_jax.plots.attention import draw_bundle_attention

        found = find_bundle(directories[0] if directories else None)
        figure = draw_bundle_attention(load_bundle(found), decode_argument(text))
        name = (found.parent if (found.parent / "config.toml").exists() else Path()) / "attention"
    for file in pictures.save_figure(figure, out or name):
        click.echo(file)


@main.group()
def tokenizer() -> None:
    """Train a vocabulary, and turn text into token ids and back."""


@tokenizer.command(
    "train", epilog="Example: python -m valyrian_jax tokenizer train text.txt -o tokenizer.json"
)
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option(
    "--vocab-size",
    type=int,
    default=500,
    show_default=True,
    help="Tokens: 256 bytes, merges, <|endoftext|>.",
)
@click.option(
    "--text-key",
    metavar="KEY",
    default="text",
    show_default=True,
    help="Of the text in JSON lines.",
)
@click.option(
    "-o", "--out", type=FILE, default="tokenizer.json", show_default=True, help="File to write."
)
def train_tokenizer(files: tuple[Path, ...], vocab_size: int, text_key: str, out: Path) -> None:
    """Learn a vocabulary of exactly --vocab-size tokens from FILES: UTF-8 texts, .jsonl, or either with .gz.

    What `tokenizer encode --out` would skip is skipped.
    """
    from valyrian_jax.data import documents
    from valyrian_jax.data.text import read_blocks
    from valyrian_jax.tokenizer import train_bpe

    def texts(file: Path) -> Iterator[str]:
        is_plain = not (documents.has_lines(file) or documents.is_zipped(file))
        return read_blocks(file) if is_plain else documents.read_texts(file, text_key)

    trained = train_bpe((text for file in files for text in texts(file)), vocab_size)
    trained.save(out)
    click.echo(f"{out}: {trained.vocab_size} tokens")


@tokenizer.command(
    epilog="Example: python -m valyrian_jax tokenizer encode tokenizer.json text.txt"
)
@click.argument("vocabulary", type=FILE)
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path())
@SHOW_TOKENS
@click.option(
    "--out", type=FILE, help="Directory for shards of tokens, which `train.py --data.path` takes."
)
@click.option("--text-key", metavar="KEY", help="Of the text in JSON lines [text].")
@click.option("--shard-tokens", type=click.IntRange(1, 2**30), help="Tokens in a shard [67108864].")
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    help="Processes that share the work [one for each core].",
)
def encode(
    vocabulary: Path, files: tuple[str, ...], show_tokens: bool, out: Path | None, **sharding: Any
) -> None:
    """Print the token ids of FILE [standard input], by the tokenizer.json VOCABULARY, on one line.

    With --out: write the tokens of any number of FILEs, however large, as shards to train on. FILEs are texts with
    blank lines between documents or, if their names end in .jsonl, a JSON object a line; .gz is unpacked. The same
    command goes on after a stop.
    """
    given = {name: value for name, value in sharding.items() if value is not None}
    if out is not None:
        if show_tokens or not files:
            raise click.UsageError("--out takes one FILE or more, and no --show-tokens")
        write_shards(vocabulary, files, out, given)
        return
    if given:
        raise click.UsageError("--text-key, --shard-tokens and --workers go together with --out")
    if len(files) > 1:
        raise click.UsageError(
            f"expected one FILE, found {len(files)}; to write them as shards say --out DIRECTORY"
        )
    name = files[0] if files else "-"
    try:
        opened = click.open_file(name, "rb")
    except OSError as error:
        raise click.BadParameter(f"{name!r}: {error.strerror}", param_hint="'[FILE]'") from error
    with opened as file:
        print_ids(vocabulary, file, show_tokens)


def print_ids(vocabulary: Path, file: Any, show_tokens: bool) -> None:
    """Print the token ids of a file on one line, or its tokens."""
    from valyrian_jax.tokenizer import Tokenizer

    loaded = Tokenizer.load(vocabulary)
    ids = loaded.encode_bytes(file.read())
    if show_tokens:
        print_tokens(loaded.tokens[i] for i in ids)
    else:
        click.echo(" ".join(map(str, ids)))


def write_shards(
    vocabulary: Path, files: tuple[str, ...], out: Path, options: dict[str, Any]
) -> None:
    """Write the tokens of files as shards, and say what is in them."""
    from rich.console import Console

    from valyrian_jax.data import shard_writer
    from valyrian_jax.training.signals import stop_signals

    with stop_signals() as stop_signal:
        paths, console = [*map(Path, files)], Console(stderr=True)
        index = shard_writer.encode(
            vocabulary, paths, out, console, **options, stop_signal=stop_signal
        )
    click.echo(f"{out}: {shard_writer.describe(index)}")


@tokenizer.command(
    "decode", epilog="Example: python -m valyrian_jax tokenizer decode tokenizer.json ids.txt"
)
@click.argument("vocabulary", type=FILE)
@click.argument("file", type=click.File("rb"), default="-")
def decode(vocabulary: Path, file: Any) -> None:
    """Print the bytes of the token ids in FILE [standard input], which are separated by white space."""
    from valyrian_jax.tokenizer import Tokenizer

    click.echo(Tokenizer.load(vocabulary).decode_bytes(token_ids(file.read())), nl=False)


def token_ids(text: bytes) -> Iterator[int]:
    """The token ids in a text.

    Raises:
        UserError: something in it is none.
    """
    for word in text.split():
        if not word.isdigit() or len(word) > 9:
            shown = word[:40].decode("utf-8", "replace")
            raise UserError(
                f"{shown!r} is not a token id; expected whole numbers separated by white space"
            )
        yield int(word)


if __name__ == "__main__":
    run_command(main)
