"""Commands for tokenizers: train one, encode texts and decode token ids."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from valyrian_jax.cli.options import INPUT, PATH, show_tokens_option, text_key_option
from valyrian_jax.cli.run_options import separator_option
from valyrian_jax.errors import UserError, escape, stop_signals
from valyrian_jax.files import STANDARD_INPUT, expand_urls, is_standard_output, write_output
from valyrian_jax.tokenizer.display import print_text


@click.group()
def tokenizer() -> None:
    """Train a tokenizer; turn text into token ids and back."""


@tokenizer.command(
    epilog='Example: python -m valyrian_jax tokenizer train "data/High Valyrian.txt"'
)
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option(
    "--vocab-size",
    type=int,
    default=500,
    show_default=True,
    help="Number of tokens: 256 bytes, the merges and <|endoftext|>.",
)
@text_key_option
@separator_option
@click.option(
    "-o", "--out", type=PATH, default="tokenizer.json", show_default=True, help="File to write."
)
def train(
    files: tuple[str, ...], vocab_size: int, text_key: str, separator: str, out: Path
) -> None:
    """Train a tokenizer of exactly --vocab-size tokens.

    FILES are texts of any size: plain, JSON (one object per line, or an array) or Parquet, also
    compressed with gzip or zstd; - is standard input. A URL such as s3://bucket/*.jsonl is read
    through fsspec. Documents of JSON and Parquet that `tokenizer encode --out` skips are skipped
    here too.
    """
    from valyrian_jax.data.reading.documents import read_texts
    from valyrian_jax.data.reading.text_form import check_texts
    from valyrian_jax.tokenizer import train_bpe

    files = expand_files(files)
    note = functools.cache(_print_note)  # Each line once, though many files may cause it.
    check_texts(files, text_key, separator, note)
    texts = (text for file in files for text in read_texts(file, text_key, separator, note))
    with write_output(out) as temporary:
        trained = train_bpe(texts, vocab_size)
        trained.save(temporary)
    click.echo(escape(f"{out}: {trained.vocab_size} tokens"), err=is_standard_output(out))


def _print_note(line: str) -> None:
    print_text(f"note: {line}", to_stderr=True)


@tokenizer.command(
    epilog="Example: python -m valyrian_jax tokenizer encode tokenizer.json README.md"
)
@click.argument("vocabulary", type=INPUT)
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path())
@show_tokens_option
@click.option("--out", type=PATH, help="Directory for shards of tokens to train on.")
@text_key_option
@separator_option
@click.option(
    "--shard-tokens",
    type=click.IntRange(1, 2**30),
    show_default=str(2**26),
    help="Number of tokens in each shard.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    show_default="one for each core",
    help="Number of worker processes.",
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="Encode on the workers of this Dask scheduler instead."
)
@click.option("--deduplicate", is_flag=True, help="Skip a document whose whole text came before.")
def encode(
    vocabulary: Path, files: tuple[str, ...], show_tokens: bool, out: Path | None, **settings: Any
) -> None:
    """Print the token ids of a text on one line.

    VOCABULARY is a tokenizer.json. FILE is any file, also compressed with gzip or zstd; the default
    is standard input.

    With --out, write the tokens of any number of FILEs of any size as shards, which `train.py
    --data.path` reads. Then a FILE is plain text, JSON (one object per line, or an array) or
    Parquet, also compressed; a URL such as s3://bucket/*.jsonl is read through fsspec. After an
    interruption, the same command continues.
    """
    context = click.get_current_context()
    settings = {
        name: value
        for name, value in settings.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    if out is not None:
        if show_tokens or not files:
            raise click.UsageError("--out expects at least one FILE and no --show-tokens")
        if {"workers", "scheduler"} <= settings.keys():
            raise click.UsageError("--workers are processes of this machine; leave out --scheduler")
        write_shards(vocabulary, files, out, settings)
    elif settings:
        raise click.UsageError(
            "--text-key, --separator, --shard-tokens, --workers, --scheduler and --deduplicate "
            "need --out; pass --out DIRECTORY"
        )
    elif len(files) > 1:
        raise click.UsageError(
            f"expected one FILE, found {len(files)}; pass --out DIRECTORY to write shards"
        )
    else:
        print_ids(vocabulary, files[0] if files else STANDARD_INPUT, show_tokens)


@tokenizer.command(
    epilog='Example: python -m valyrian_jax tokenizer decode tokenizer.json <<< "39 72"'
)
@click.argument("vocabulary", type=INPUT)
@click.argument("file", default=STANDARD_INPUT)
def decode(vocabulary: Path, file: str) -> None:
    """Print the bytes of token ids.

    VOCABULARY is a tokenizer.json. FILE contains token ids separated by white space, as `tokenizer
    encode` prints them; the default is standard input.
    """
    from valyrian_jax.data.reading.text_reader import read_blocks
    from valyrian_jax.tokenizer import Tokenizer

    blocks = map(parse_token_ids, read_blocks(file))
    loaded = Tokenizer.load(vocabulary)
    for ids in blocks:
        click.echo(loaded.decode_bytes(ids), nl=False)


def expand_files(files: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of texts, with a URL that is a pattern replaced by those that match it."""
    return tuple(name for file in files for name in expand_urls(file))


def print_ids(vocabulary: Path, file: str, show_tokens: bool) -> None:
    """Print the token ids of a file on one line, or its tokens."""
    from valyrian_jax.data.reading.text_reader import read_blocks
    from valyrian_jax.tokenizer import Tokenizer
    from valyrian_jax.tokenizer.display import print_tokens

    loaded = Tokenizer.load(vocabulary)
    blocks = map(loaded.encode_bytes, read_blocks(file))
    if show_tokens:
        print_tokens(loaded.tokens[i] for ids in blocks for i in ids)
        return
    separator = ""
    for ids in filter(None, blocks):
        click.echo(separator + " ".join(map(str, ids)), nl=False)
        separator = " "
    click.echo()


def write_shards(
    vocabulary: Path, files: tuple[str, ...], out: Path, settings: dict[str, Any]
) -> None:
    """Write the tokens of files as shards and print a summary."""
    from rich.console import Console

    from valyrian_jax.data.shards.index import describe_index
    from valyrian_jax.data.shards.writer import encode_files

    paths = ["/dev/stdin" if file == STANDARD_INPUT else file for file in expand_files(files)]
    console = Console(stderr=True)
    with stop_signals() as stop_signal:
        index = encode_files(vocabulary, paths, out, console, **settings, stop_signal=stop_signal)
    click.echo(escape(f"{out}: {describe_index(index)}"))


def parse_token_ids(text: bytes) -> Iterator[int]:
    """Parse token ids that are separated by white space."""
    for word in text.split():
        if not word.isdigit() or len(word) > 9:
            shown = word[:40].decode("utf-8", "replace")
            raise UserError(
                f"{shown!r} is not a token id; expected whole numbers separated by white space"
            )
        yield int(word)
