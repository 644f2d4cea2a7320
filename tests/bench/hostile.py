"""Measure how time grows with hostile text, and check that random strings round-trip.

python tests/bench/hostile.py [--only NAME] [--strings 1000000]

Every operation gets each kind of text at n, 2n, 4n and 8n bytes in one process. The fitted exponent
is that of time as a power of size.
"""

import functools
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import click
import numpy as np
import texts
import torch
from measuring import ROOT, describe_machine, time_call
from rich.console import Console
from rich.table import Table

from bridge import torchscript
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.names import parameter_shapes
from valyrian_jax.config import ModelConfig
from valyrian_jax.data.overlap import measure_overlap
from valyrian_jax.data.reading.separators import find_documents
from valyrian_jax.data.split import split_documents
from valyrian_jax.language import check
from valyrian_jax.tokenizer import Tokenizer, batch, train_bpe
from valyrian_jax.tokenizer.encoder import Encoder

sys.path.append(str(ROOT))

from tests.support.hostile_texts import HOSTILE_TEXTS
from tests.support.oracles import make_tiktoken

DOUBLINGS = 3
ALPHABETS = (
    "a",
    "ab",
    "abcdefghijklmnopqrstuvwxyz ",
    " \n\t\r\u00a0\u3000\u2028",
    "'srtvemld ",
    "0123456789 ½²Ⅷ٣",
    "u\u0304\u0301\u0323n\u0303",
    "\x00\x1b\x7f\x85a",
    "🐉👩\u200d👧🇻🇦漢字 \U0010ffff",
    "ȳēāñ valar morghūlis.",
)


def make_collisions(size: int) -> bytes:
    """Return pre-tokens of 7 bytes that all had the same slot in an earlier hash table.

    The compiled code once began its search at slot (pre-token x 0x9E3779B97F4A7C15) >> 20.
    """
    mask = (1 << 42) - 1  # the bits that choose the slot, for tables of up to 2^22 slots
    inverse = pow(0x9E3779B97F4A7C15, -1, mask + 1)
    keys = np.arange(1 << 20, dtype=np.uint64) * np.uint64(inverse) & np.uint64(mask)
    key_bytes = keys[:, None] >> np.arange(32, -1, -8, dtype=np.uint64) & np.uint64(255)
    # Bytes that are neither letters nor UTF-8.
    allowed = np.isin(np.arange(256), [*range(0x80, 0xC0), *b'!"#$%&()*+,-./:;<=>?@[]^_`{|}~'])
    # The key fixes the two lowest bits of the second byte.
    second_bytes = np.flatnonzero(allowed & (np.arange(256) % 4 == 0))
    suffixes = key_bytes[allowed[key_bytes[:, :5].astype(int)].all(axis=1)].astype(np.uint8)
    rows = []
    for first in np.flatnonzero(allowed):
        for second in second_bytes:
            rows.append(np.insert(np.insert(suffixes, 0, second, axis=1), 0, first, axis=1))
            if sum(map(len, rows)) * 8 >= size:
                return np.insert(np.concatenate(rows), 7, ord("a"), axis=1).tobytes()[:size]
    raise ValueError(f"cannot make {size} bytes of collisions")


KINDS = HOSTILE_TEXTS | {"crafted collisions": make_collisions}


class Operation(NamedTuple):
    """A function of bytes to time.

    Attributes:
        name: Name in the table.
        smallest: Number of bytes of the smallest text.
        run: The function.
    """

    name: str
    smallest: int
    run: Callable[[bytes], Any]


def compile_tokenizer(tokenizer: Tokenizer) -> Any:
    """Return a TorchScript module with the tokenizer and a minimal model."""
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, n_positions=4, n_embd=2, n_layer=1, n_head=1
    )
    shapes = parameter_shapes(config)
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    return torchscript.compile_module(torchscript.TextGenerator(Bundle(config, tensors, tokenizer)))


def to_tensor(text: bytes) -> torch.Tensor:
    return torch.tensor(np.frombuffer(text, np.uint8).astype(np.int64))


def train_tokenizers() -> tuple[Tokenizer, Tokenizer]:
    """Return a tokenizer of 500 tokens of Valyrian, and one of 20,000 tokens of English."""
    corpus = (ROOT / "data" / "High Valyrian.txt").read_text(encoding="utf-8")
    return train_bpe(corpus[:400_000], 500), train_bpe(texts.load_docstrings(8_000_000), 20_000)


def round_trip(tokenizer: Tokenizer, text: bytes) -> None:
    assert tokenizer.decode_bytes(tokenizer.encode_bytes(text)) == text


def round_trip_readable(tokenizer: Tokenizer, text: bytes) -> None:
    with mock.patch.object(Encoder, "_can_compile", return_value=False):
        round_trip(tokenizer, text)


def compile_encoder(tokenizer: Tokenizer) -> Tokenizer:
    copy = Tokenizer(tokenizer.tokens, tokenizer.merges, tokenizer.special)
    copy.compile()
    return copy


def round_trip_script(script: Any, text: bytes) -> None:
    data = to_tensor(text)
    assert torch.equal(script.bpe.decode(script.bpe.encode(data)), data)


def split_text(text: bytes) -> None:
    decoded = text.decode("utf-8", "replace")
    measure_overlap(split_documents(find_documents("0 " * 20 + decoded), 0.1))


def list_operations(small: Tokenizer, large: Tokenizer) -> Iterator[Operation]:
    for label, smallest, function, convert in (
        ("readable", 62_500, round_trip_readable, None),
        ("compiled", 1_250_000, round_trip, compile_encoder),
        ("TorchScript", 62_500, round_trip_script, compile_tokenizer),
    ):
        for tokenizer, vocabulary in ((small, "500"), (large, "20,000")):
            subject = convert(tokenizer) if convert else tokenizer
            run = functools.partial(function, subject)
            yield Operation(f"encode, decode: {label}, {vocabulary}", smallest, run)
    yield Operation(
        "learning 200 merges",
        500_000,
        lambda text: batch.learn_merges(batch.count_pieces([text]), 200),
    )
    yield Operation("check", 62_500, lambda text: check(text.decode("utf-8", "replace")))
    yield Operation("data.split, data.overlap", 1_250_000, split_text)


def measure_growth(operation: Operation, make: Callable[[int], bytes], longest: float) -> list[str]:
    """Return the size of the largest text, its seconds, and the exponent."""
    operation.run(make(1000))
    sizes, times = [], []
    for doubling in range(DOUBLINGS + 1):
        text = make(operation.smallest << doubling)
        sizes.append(len(text))
        run = functools.partial(operation.run, text)
        times.append(min(time_call(run) for _ in range(2)))
        if times[-1] > longest:
            break
    slope = np.polyfit(np.log(sizes), np.log(times), 1)[0] if len(times) > 1 else float("nan")
    return [f"{sizes[-1]:,}", f"{times[-1]:.4f}", f"{slope:.2f}"]


def make_growth_table(small: Tokenizer, large: Tokenizer, only: str, longest: float) -> Table:
    """Measure the operations whose names contain `only`, on every kind of text."""
    machine = describe_machine()
    table = Table(title=" · ".join(f"{name} {value}" for name, value in machine.items()))
    for heading in ("operation", "text", "bytes", "seconds", "exponent"):
        table.add_column(heading)
    for operation in list_operations(small, large):
        if only not in operation.name:
            continue
        for kind, make in KINDS.items():
            row = operation.name, kind, *measure_growth(operation, make, longest)
            click.echo(" | ".join(row), err=True)
            table.add_row(*row)
    return table


def draw_strings(count: int) -> Iterator[bytes | str]:
    """Yield, in turns, random bytes, random code points of all planes, and structured mixtures."""
    draw = random.Random(count)
    planes = [range(plane << 16, (plane + 1) << 16) for plane in range(17)]
    for i in range(count):
        match i % 3:
            case 0:
                yield draw.randbytes(draw.randrange(60))
            case 1:
                yield "".join(
                    chr(draw.choice(draw.choice(planes))) for _ in range(draw.randrange(20))
                )
            case _:
                runs = (
                    draw.choices(draw.choice(ALPHABETS), k=draw.randrange(1, 12))
                    for _ in range(draw.randrange(6))
                )
                yield "".join("".join(run) for run in runs)


def check_round_trips(tokenizers: Sequence[Tokenizer], count: int) -> str:
    """Encode and decode random strings, and compare some of the ids with other tokenizers.

    TorchScript gets 3 of 20 strings, tiktoken 3 of 5 if they are valid UTF-8.
    """
    scripts = [compile_tokenizer(tokenizer) for tokenizer in tokenizers]
    encodings = [make_tiktoken(tokenizer) for tokenizer in tokenizers]
    script_count = tiktoken_count = surrogate_count = 0
    for i, string in enumerate(draw_strings(count)):
        encoded = string if isinstance(string, bytes) else batch.encode_utf8(string)
        text = encoded.decode("utf-8", "replace")
        surrogates = isinstance(string, str) and any("\ud800" <= c <= "\udfff" for c in string)
        surrogate_count += surrogates
        for tokenizer, script, encoding in zip(tokenizers, scripts, encodings, strict=True):
            is_bytes = isinstance(string, bytes)
            ids = tokenizer.encode_bytes(encoded) if is_bytes else tokenizer.encode(string)
            assert tokenizer.decode_bytes(ids) == encoded, string
            assert is_bytes or surrogates or tokenizer.decode(ids) == string, string
            if i % 20 < 3:
                script_count += 1
                assert script.bpe.encode(to_tensor(encoded)).tolist() == ids, string
                assert script.decode(ids) == tokenizer.decode(ids), string
            if i % 5 < 3 and text.encode() == encoded:
                tiktoken_count += 1
                assert encoding.encode_ordinary(text) == ids, string
    sizes = " and ".join(f"{tokenizer.vocab_size:,}" for tokenizer in tokenizers)
    return (
        f"{count:,} strings, {surrogate_count:,} of them with lone surrogates, round-trip with "
        f"vocabularies of {sizes}; {script_count:,} encodings equal TorchScript's and "
        f"{tiktoken_count:,} tiktoken's"
    )


@click.command()
@click.option(
    "--strings",
    "count",
    type=click.IntRange(min=0),
    default=0,
    help="Check this many random strings instead.",
)
@click.option("--only", default="", help="A part of the names of the operations to time.")
@click.option(
    "--longest",
    default=20.0,
    show_default=True,
    help="Seconds after which no larger text is tried.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="File to write the table to.")
def main(count: int, only: str, longest: float, out: Path | None) -> None:
    """Time every operation on every kind of hostile text, or check random strings."""
    torch.set_num_threads(1)
    tokenizers = train_tokenizers()
    if count:
        start = time.perf_counter()
        summary = check_round_trips(tokenizers, count)
        click.echo(f"{summary} ({time.perf_counter() - start:.0f} s)")
        return
    console = Console(width=120, record=True)
    console.print(make_growth_table(*tokenizers, only, longest))
    if out:
        out.write_text(console.export_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
