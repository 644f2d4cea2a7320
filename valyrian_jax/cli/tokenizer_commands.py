"""Commands for tokenizers: train one, encode texts and decode token ids."""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click

from valyrian_jax.cli.options import PATH, show_tokens_option
from valyrian_jax.errors import UserError, escape, stop_signals
from valyrian_jax.files import is_standard_output, write_output


@click.group()
def tokenizer() -> None:
    """Train a tokenizer; turn text into token ids and back."""


@tokenizer.command(
    epilog='Example: python -m valyrian_jax tokenizer train "data/High Valyrian.txt"'
)
@click.argument("files", nargs=-1, required=True, type=PATH)
@click.option(
    "--vocab-size",
    type=int,
    default=500,
    show_default=True,
    help="Number of tokens: 256 bytes, the merges and <|endoftext|>.",
)
@click.option(
    "--text-key",
    metavar="KEY",
    default="text",
    show_default=True,
    help="Key of the text in JSON lines.",
)
@click.option(
    "-o", "--out", type=PATH, default="tokenizer.json", show_default=True, help="File to write."
)
def train(files: tuple[Path, ...], vocab_size: int, text_key: str, out: Path) -> None:
    """Train a tokenizer of exactly --vocab-size tokens.

    FILES are UTF-8 texts or JSON lines (.jsonl), and can be gzipped (.gz). Documents that
    `tokenizer encode --out` skips are skipped here too.
    """
    from valyrian_jax.tokenizer import train_bpe

    texts = (text for file in files for text in read_training_texts(file, text_key))
    with write_output(out) as temporary:
        trained = train_bpe(texts, vocab_size)
        trained.save(temporary)
    click.echo(escape(f"{out}: {trained.vocab_size} tokens"), err=is_standard_output(out))


@tokenizer.command(
    epilog="Example: python -m valyrian_jax tokenizer encode tokenizer.json README.md"
)
@click.argument("vocabulary", type=PATH)
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path())
@show_tokens_option
@click.option("--out", type=PATH, help="Directory for shards of tokens to train on.")
@click.option(
    "--text-key", metavar="KEY", show_default="text", help="Key of the text in JSON lines."
)
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
def encode(
    vocabulary: Path, files: tuple[str, ...], show_tokens: bool, out: Path | None, **settings: Any
) -> None:
    """Print the token ids of a text on one line.

    VOCABULARY is a tokenizer.json. FILE is any file; the default is standard input.

    With --out, write the tokens of any number of FILEs of any size as shards, which `train.py
    --data.path` reads. Then a FILE is a UTF-8 text with blank lines between documents, or JSON
    lines (.jsonl), and can be gzipped (.gz). After an interruption, the same command continues.
    """
    settings = {name: value for name, value in settings.items() if value is not None}
    if out is not None:
        if show_tokens or not files:
            raise click.UsageError("--out expects at least one FILE and no --show-tokens")
        write_shards(vocabulary, files, out, settings)
    elif settings:
        raise click.UsageError(
            "--text-key, --shard-tokens and --workers need --out; pass --out DIRECTORY"
        )
    elif len(files) > 1:
        raise click.UsageError(
            f"expected one FILE, found {len(files)}; pass --out DIRECTORY to write shards"
        )
    else:
        with click.open_file(files[0] if files else "-", "rb") as file:
            print_ids(vocabulary, file, show_tokens)


@tokenizer.command(
    epilog='Example: python -m valyrian_jax tokenizer decode tokenizer.json <<< "39 72"'
)
@click.argument("vocabulary", type=PATH)
@click.argument("file", type=click.File("rb"), default="-")
def decode(vocabulary: Path, file: IO[bytes]) -> None:
    """Print the bytes of token ids.

    VOCABULARY is a tokenizer.json. FILE contains token ids separated by white space, as `tokenizer
    encode` prints them; the default is standard input.
    """
    from valyrian_jax.tokenizer import Tokenizer

    ids = parse_token_ids(file.read())
    click.echo(Tokenizer.load(vocabulary).decode_bytes(ids), nl=False)


def read_training_texts(file: Path, text_key: str) -> Iterator[str]:
    """Read a plain text in blocks, and JSON lines or a gzipped file by documents."""
    from valyrian_jax.data import documents
    from valyrian_jax.data.text import read_blocks

    if documents.is_json_lines(file) or documents.is_gzipped(file):
        return documents.read_texts(file, text_key)
    return read_blocks(file)


def print_ids(vocabulary: Path, file: IO[bytes], show_tokens: bool) -> None:
    """Print the token ids of a file on one line, or its tokens."""
    from valyrian_jax.tokenizer import Tokenizer
    from valyrian_jax.tokenizer.display import print_tokens

    loaded = Tokenizer.load(vocabulary)
    ids = loaded.encode_bytes(file.read())
    if show_tokens:
        print_tokens(loaded.tokens[i] for i in ids)
    else:
        click.echo(" ".join(map(str, ids)))


def write_shards(
    vocabulary: Path, files: tuple[str, ...], out: Path, settings: dict[str, Any]
) -> None:
    """Write the tokens of files as shards and print a summary."""
    from rich.console import Console

    from valyrian_jax.data.shard_index import describe_index
    from valyrian_jax.data.shard_writer import encode_files

    paths, console = [*map(Path, files)], Console(stderr=True)
    with stop_signals() as stop_signal:
        index = encode_files(vocabulary, paths, out, console, **settings, stop_signal=stop_signal)
    click.echo(escape(f"{out}: {describe_index(index)}"))


def parse_token_ids(text: bytes) -> Iterator[int]:
    """Parse token ids that are separated by white space.

    Raises:
        UserError: A word is not a token id.
    """
    for word in text.split():
        if not word.isdigit() or len(word) > 9:
            shown = word[:40].decode("utf-8", "replace")
            raise UserError(
                f"{shown!r} is not a token id; expected whole numbers separated by white space"
            )
        yield int(word)
