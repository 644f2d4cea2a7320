"""What all command lines share: options, the printing of samples, and errors in one line."""

import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

import click

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.text_generation import (
    TokenGenerator,
    encode_prompt,
    generate_many_tokens,
    resolve_sample_config,
    stream_text,
    until_end_of_text,
)
from valyrian_jax.config import list_settings
from valyrian_jax.errors import StoppedError, UserError
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.tokenizer.display import MARK, print_tokens, token_text

_SEPARATOR = "__"
_LONGEST = 2000  # characters of a message

PATH = click.Path(path_type=Path)
RUN_ARGUMENT = click.argument("run", type=PATH, required=False)
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
SHOW_TOKENS = click.option(
    "--show-tokens",
    is_flag=True,
    help=f"Show the tokens: in two colours or, where colours are off, parted by {MARK}; what cannot be seen, "
    r"half a character say, as its bytes: \xc4.",
)

_SAMPLE_OPTIONS = (
    RUN_ARGUMENT,
    click.option(
        "--prompt", "text", default="", help="Text to go on from [the beginning of a document]."
    ),
    click.option(
        "--max-new-tokens", type=click.IntRange(min=1), help="Tokens to generate at most."
    ),
    click.option(
        "--temperature", type=click.FloatRange(min=0), help="0: always the most probable token."
    ),
    click.option(
        "--top-k", type=click.IntRange(min=0), help="Only the k most probable tokens; 0: all."
    ),
    click.option(
        "--top-p",
        type=click.FloatRange(min=0, min_open=True),
        help="Only the nucleus of mass p; 1: all.",
    ),
    click.option(
        "--seed", type=click.IntRange(0, 2**32 - 1), help="The same seed gives the same text."
    ),
    click.option(
        "--num-samples",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Texts, with seeds from --seed on.",
    ),
    SHOW_TOKENS,
    JSON_OPTION,
)


def run_command(command: click.Command) -> NoReturn:
    """Run a command on sys.argv and exit.

    Every mistake of the user, from a mistyped option to an unreadable file, ends in one line on standard error and
    status 2; `--debug` anywhere on the line shows the traceback instead.
    """
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if len(arguments) < len(sys.argv) - 1:
        sys.exit(command.main(arguments, standalone_mode=False))
    try:
        sys.exit(command.main(arguments, standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.ctx.get_help() if error.ctx else error)
        sys.exit(2)
    except click.ClickException as error:
        _fail(error.format_message())
    except UserError as error:
        _fail(str(error))
    except StoppedError as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.status)
    except BrokenPipeError:  # the reader of our output has gone, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except UnicodeEncodeError as error:
        _fail(
            f"the output cannot hold {error.object[error.start]!r} in {error.encoding}; set PYTHONIOENCODING=utf-8"
        )
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except MemoryError as error:
        _fail(f"not enough memory: {error}; ask for less at a time")
    except (KeyboardInterrupt, click.Abort):
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _fail(message: str) -> NoReturn:
    line = " ".join(message.split())
    shown = (
        line if len(line) <= _LONGEST else line[:_LONGEST] + " ..."
    )  # a name in a file may be a book
    # and may hold what moves the cursor of a terminal, or what no output can hold
    clean = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    print(f"error: {clean}", file=sys.stderr)
    sys.exit(2)


def config_options() -> list[click.Parameter]:
    """One option for every configuration key: --section.key VALUE."""
    return [
        click.Option(
            [f"--{key.name}", key.name.replace(".", _SEPARATOR)],
            type=_click_type(key.type),
            help=f"{key.description} [{key.default if key.default != '' else 'empty'}]",
        )
        for key in list_settings()
    ]


def collect_overrides(options: dict[str, Any]) -> dict[str, Any]:
    """The values given for `config_options`, by dotted key."""
    return {
        name.replace(_SEPARATOR, "."): value for name, value in options.items() if value is not None
    }


def sample_options(function: Callable[..., None]) -> Callable[..., None]:
    """The arguments of a command that draws text; all but `run` are those of `print_samples`."""
    for option in reversed(_SAMPLE_OPTIONS):
        function = option(function)
    return function


def print_samples(
    bundle: Bundle,
    generate: TokenGenerator,
    text: str,
    num_samples: int,
    show_tokens: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Continue a text and print it: one sample as it is drawn, several a batch at a time."""
    given = {name: value for name, value in settings.items() if value is not None}
    start = decode_argument(text)
    sample = resolve_sample_config(bundle, {**given, "prompt": start})
    tokenizer, echo = bundle.tokenizer, _echo_tokens if show_tokens else _echo_text
    if num_samples == 1 and not as_json:
        rows = generate(encode_prompt(tokenizer, start), sample, 1)
        echo(tokenizer, start, (int(row[0]) for row in rows))
        return
    for row, ids in enumerate(generate_many_tokens(generate, tokenizer, sample, num_samples)):
        seed = (sample.seed + row) % 2**32
        if as_json:
            record: dict[str, Any] = {
                "seed": seed,
                "text": start + "".join(stream_text(tokenizer, ids)),
            }
            if show_tokens:
                record["tokens"] = [token_text(token) for token in _tokens(tokenizer, start, ids)]
            click.echo(json.dumps(record, ensure_ascii=False), color=True)
        else:
            click.echo(f"[seed {seed}] ", nl=False)
            echo(tokenizer, start, ids)


def _echo_text(tokenizer: Tokenizer, start: str, ids: Iterable[int]) -> None:
    for part in itertools.chain([start], stream_text(tokenizer, ids)):
        click.echo(part, nl=False, color=True)  # color: as it is, control characters and all
    click.echo()


def _echo_tokens(tokenizer: Tokenizer, start: str, ids: Iterable[int]) -> None:
    print_tokens(_tokens(tokenizer, start, ids))


def _tokens(tokenizer: Tokenizer, start: str, ids: Iterable[int]) -> Iterator[bytes]:
    """The tokens of a prompt and of what goes on from it, up to the end of the document."""
    for i in itertools.chain(tokenizer.encode(start), until_end_of_text(tokenizer, ids)):
        yield tokenizer.decode_bytes([i])


def decode_argument(argument: str) -> str:
    """An argument as text that can be encoded: bytes in it that are not UTF-8 become the sign for that."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _click_type(annotation: Any) -> click.ParamType[Any]:
    if get_origin(annotation) is Literal:
        return click.Choice(get_args(annotation))
    plain: dict[Any, click.ParamType[Any]] = {
        int: click.INT,
        float: click.FLOAT,
        bool: click.BOOL,
        str: click.STRING,
    }
    return plain[annotation]
