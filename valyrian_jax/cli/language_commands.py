"""Commands for texts in the language: generate a corpus and check sentences."""

import os
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import click

from valyrian_jax.cli.options import PATH, decode_argument, json_option, text_key_option
from valyrian_jax.errors import UserError
from valyrian_jax.files import STANDARD_INPUT, is_standard_output, is_stream, write_output
from valyrian_jax.tokenizer.display import print_words

_CORPUS_SENTENCES, _SHOWN_SENTENCES = 250_000, 20


@click.command(epilog="Example: python -m valyrian_jax corpus --sentences 100 --seed 1 -o more.txt")
@click.option(
    "--sentences",
    type=click.IntRange(min=1),
    show_default=f"{_CORPUS_SENTENCES}, or {_SHOWN_SENTENCES} on a terminal",
    help="Number of sentences.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Random seed; the same seed gives the same text.",
)
@click.option(
    "--exact",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Number of other texts whose exact probability, the sum over all derivations, is computed "
    "too.",
)
@click.option(
    "-o",
    "--out",
    type=PATH,
    show_default="standard output",
    help="File to write, or - for standard output. The entropy of a file goes into a second file, "
    "with the suffix .source.json.",
)
def corpus(sentences: int | None, seed: int, exact: int, out: Path | None) -> None:
    """Generate paragraphs of High Valyrian from the grammar.

    The last line is a summary with the entropy of the text.
    """
    from valyrian_jax.data.corpus_entropy import generate_corpus, save_source, source_path

    if sentences is None:
        is_shown = out is None and sys.stdout is not None and sys.stdout.isatty()
        sentences = _SHOWN_SENTENCES if is_shown else _CORPUS_SENTENCES
        if is_shown:
            note = f"{sentences} sentences; --sentences {_CORPUS_SENTENCES} prints the whole corpus"
            click.echo(f"{note}, -o FILE writes it", err=True)
    if out is None:
        generated = generate_corpus(sentences, seed, exact)
        click.echo(generated.text, nl=False)
    else:
        with write_output(out) as temporary:
            generated = generate_corpus(sentences, seed, exact)
            temporary.write_text(generated.text, encoding="utf-8", newline="")
            if not is_stream(out):  # If the source cannot be written, the old text stays.
                save_source(generated.source, source_path(out))
    click.echo(generated.summary, err=out is None or is_standard_output(out))


@click.command(epilog='Example: python -m valyrian_jax check "Valar morghūlis."')
@click.argument("inputs", metavar="[FILE|-|SENTENCE]", nargs=-1)
@click.option(
    "--word",
    "words",
    is_flag=True,
    help="Look up words instead: the arguments are words or sentences, and each word is printed "
    "with its readings.",
)
@text_key_option
@json_option
def check(inputs: tuple[str, ...], words: bool, text_key: str, as_json: bool) -> int:
    """Check every sentence of a text against the grammar.

    FILE is a text of any size: plain, JSON (one object per line, or an array) or Parquet, also
    compressed with gzip or zstd; - and the default are standard input. A SENTENCE can take its
    place. A line break ends a sentence, unless a line goes on in lower case.

    Every sentence gets a verdict. right: the grammar accepts it. mistake: a word has a wrong form;
    the reason names the rule and the right form. beyond: the sentence has an unknown word or a
    construction that the grammar lacks, so it can be right or wrong.

    The exit status is 0 if all sentences are right, 1 if one has a mistake, otherwise 3. With
    --word it is 3 if a word is unknown.
    """
    from valyrian_jax.cli.verdicts import INDENT, exit_status, format_readings, format_verdicts

    counts = Counter[str]()
    if words:
        lines = format_readings([decode_argument(text) for text in inputs], as_json, counts)
    else:
        lines = format_verdicts(read_sentences(inputs, text_key), as_json, counts)
    for line in lines:
        print_words([line], INDENT)
    return exit_status(counts)


def read_sentences(inputs: tuple[str, ...], text_key: str) -> Iterable[str]:
    """Return the text that the arguments [FILE|-|SENTENCE] name or contain, in blocks.

    Raises:
        UserError: There are several files.
    """
    if is_sentence(inputs):
        return [decode_argument(" ".join(inputs))]
    from valyrian_jax.data.reading.documents import read_texts

    if len(inputs) > 1:
        raise UserError(
            f"expected one file, found {len(inputs)} arguments; put a sentence in quotes"
        )
    return read_texts(inputs[0] if inputs else STANDARD_INPUT, text_key, document_end="\n")


def is_sentence(arguments: tuple[str, ...]) -> bool:
    """Return whether the arguments are words of a sentence, and none is a file or looks like one.

    Words of a sentence can arrive as one argument or as several.
    """
    are_words = not any(word == STANDARD_INPUT or "/" in word for word in arguments)
    are_words = are_words and not any(map(os.path.exists, arguments))
    is_file_name = len(arguments) == 1 and re.fullmatch(r"\S*\.\w+", arguments[0])
    return bool(arguments) and are_words and not is_file_name
