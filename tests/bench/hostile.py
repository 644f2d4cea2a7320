"""Texts that nobody writes: how time grows with them, and whether they come back: python tests/bench/hostile.py

Every operation gets each kind of text at n, 2n, 4n and 8n in one process; fitted is time as size to a power.
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
import texts as prose
import torch
from measuring import ROOT, machine, seconds
from rich.console import Console
from rich.table import Table

from bridge import torchscript
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.names import parameter_shapes
from valyrian_jax.config import ModelConfig
from valyrian_jax.data.text import find_sentences, split_documents
from valyrian_jax.language import check
from valyrian_jax.tokenizer import Tokenizer, batch, train_bpe

sys.path.append(str(ROOT))

from tests.support import hostile_texts as hostile
from tests.support.oracles import as_tiktoken

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


def colliding(size: int) -> bytes:
    """Pieces of 7 bytes that all met in one slot when the tables of the compiled code began their search at
    (piece x 0x9E3779B97F4A7C15) >> 20, as they once did.
    """
    low = (1 << 42) - 1  # the bits that decided, for tables of up to 2^22 slots
    inverse = pow(0x9E3779B97F4A7C15, -1, low + 1)
    keys = np.arange(1 << 20, dtype=np.uint64) * np.uint64(inverse) & np.uint64(low)
    bytes_of = keys[:, None] >> np.arange(32, -1, -8, dtype=np.uint64) & np.uint64(255)
    single = np.isin(
        np.arange(256), [*range(0x80, 0xC0), *b'!"#$%&()*+,-./:;<=>?@[]^_`{|}~']
    )  # neither letters nor UTF-8
    first = np.flatnonzero(
        single & (np.arange(256) % 4 == 0)
    )  # the two lowest bits of the second byte are given
    found = bytes_of[single[bytes_of[:, :5].astype(int)].all(axis=1)].astype(np.uint8)
    rows = []
    for a in np.flatnonzero(single):
        for b in first:
            rows.append(np.insert(np.insert(found, 0, b, axis=1), 0, a, axis=1))
            if sum(map(len, rows)) * 8 >= size:
                whole = np.concatenate(rows)
                return np.insert(whole, 7, ord("a"), axis=1).tobytes()[:size]
    raise ValueError("too many")


KINDS = hostile.KINDS | {"crafted collisions": colliding}


class Operation(NamedTuple):
    """What is timed: a function of bytes, from so many bytes on."""

    name: str
    smallest: int
    work: Callable[[bytes], Any]


def scripted(tokenizer: Tokenizer) -> Any:
    """The tokenizer in TorchScript, with the smallest of models around it."""
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, n_positions=4, n_embd=2, n_layer=1, n_head=1
    )
    tensors = {
        name: np.zeros(shape, np.float32) for name, shape in parameter_shapes(config).items()
    }
    return torchscript.script(torchscript.TextGenerator(Bundle(config, tensors, tokenizer)))


def tensor(text: bytes) -> torch.Tensor:
    return torch.tensor(np.frombuffer(text, np.uint8).astype(np.int64))


def vocabularies() -> tuple[Tokenizer, Tokenizer]:
    corpus = (ROOT / "data" / "High Valyrian.txt").read_text(encoding="utf-8")
    return train_bpe(corpus[:400_000], 500), train_bpe(prose.prose(8_000_000), 20_000)


def operations(small: Tokenizer, large: Tokenizer) -> Iterator[Operation]:
    def compiled(work: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        def run(text: bytes) -> Any:
            with mock.patch.object(batch, "_COMPILED_FROM", 0):
                return work(text)

        return run

    def back(tokenizer: Tokenizer) -> Callable[[bytes], Any]:
        def run(text: bytes) -> None:
            assert tokenizer.decode_bytes(tokenizer.encode_bytes(text)) == text

        return run

    def scripted_back(script: Any) -> Callable[[bytes], Any]:
        def run(text: bytes) -> None:
            assert torch.equal(script.bpe.decode(script.bpe.encode(tensor(text))), tensor(text))

        return run

    def learn(text: bytes) -> None:
        batch.learn(batch.count([text]), 200)

    def cut(text: bytes) -> None:
        whole = text.decode("utf-8", "replace")
        find_sentences([whole])
        split_documents("0 " * 20 + whole, 0.1)

    yield Operation("encode, decode: readable, 500", 62_500, back(small))
    yield Operation("encode, decode: readable, 20,000", 62_500, back(large))
    yield Operation("encode, decode: compiled, 500", 1_250_000, compiled(back(small)))
    yield Operation("encode, decode: compiled, 20,000", 1_250_000, compiled(back(large)))
    yield Operation("encode, decode: TorchScript, 500", 62_500, scripted_back(scripted(small)))
    yield Operation("encode, decode: TorchScript, 20,000", 62_500, scripted_back(scripted(large)))
    yield Operation("learning 200 merges", 500_000, learn)
    yield Operation("check", 62_500, lambda text: check(text.decode("utf-8", "replace")))
    yield Operation("data.split, data.sentences", 1_250_000, cut)


def growth(small: Tokenizer, large: Tokenizer, chosen: str, longest: float) -> Table:
    """Seconds of the largest text, and the exponent, of every operation on every kind."""
    table = Table(title=" · ".join(f"{name} {value}" for name, value in machine().items()))
    for heading in ("operation", "text", "bytes", "seconds", "exponent"):
        table.add_column(heading)
    for operation in operations(small, large):
        if chosen not in operation.name:
            continue
        for kind, make in KINDS.items():
            operation.work(make(1000))
            sizes, times = [], []
            for doubling in range(DOUBLINGS + 1):
                text = make(operation.smallest << doubling)
                sizes.append(len(text))
                once = functools.partial(operation.work, text)
                times.append(min(seconds(once) for _ in range(2)))
                if times[-1] > longest:
                    break
            slope = (
                np.polyfit(np.log(sizes), np.log(times), 1)[0] if len(times) > 1 else float("nan")
            )
            row = operation.name, kind, f"{sizes[-1]:,}", f"{times[-1]:.4f}", f"{slope:.2f}"
            click.echo(" | ".join(row), err=True)
            table.add_row(*row)
    return table


def strings(count: int) -> Iterator[bytes | str]:
    """Random bytes, random code points of all planes, and mixtures that have some structure, in turns."""
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
                parts = (
                    draw.choices(draw.choice(ALPHABETS), k=draw.randrange(1, 12))
                    for _ in range(draw.randrange(6))
                )
                yield "".join("".join(part) for part in parts)


def round_trips(tokenizers: Sequence[Tokenizer], count: int) -> str:
    """Encode and decode so many strings; compare 3 of 20 with TorchScript, and 3 of 5 that are text with tiktoken."""
    scripts = [scripted(tokenizer) for tokenizer in tokenizers]
    oracles = [as_tiktoken(tokenizer) for tokenizer in tokenizers]
    asked = {"TorchScript": 0, "tiktoken": 0, "with lone surrogates": 0}
    for i, given in enumerate(strings(count)):
        encoded = given if isinstance(given, bytes) else batch.utf8(given)
        text = encoded.decode("utf-8", "replace")
        lone = isinstance(given, str) and any("\ud800" <= letter <= "\udfff" for letter in given)
        asked["with lone surrogates"] += lone
        for tokenizer, script, oracle in zip(tokenizers, scripts, oracles, strict=True):
            ids = (
                tokenizer.encode_bytes(encoded)
                if isinstance(given, bytes)
                else tokenizer.encode(given)
            )
            assert tokenizer.decode_bytes(ids) == encoded, given
            assert isinstance(given, bytes) or lone or tokenizer.decode(ids) == given, given
            if i % 20 < 3:
                asked["TorchScript"] += 1
                assert script.bpe.encode(tensor(encoded)).tolist() == ids, given
                assert script.decode(ids) == tokenizer.decode(ids), given
            if i % 5 < 3 and text.encode() == encoded:
                asked["tiktoken"] += 1
                assert oracle.encode_ordinary(text) == ids, given
    sizes = " and ".join(f"{tokenizer.vocab_size:,}" for tokenizer in tokenizers)
    compared = ", ".join(f"{n:,} {name}" for name, n in asked.items())
    return f"{count:,} strings came back exactly through vocabularies of {sizes}; compared or seen: {compared}"


@click.command()
@click.option(
    "--strings",
    "count",
    type=click.IntRange(min=0),
    default=0,
    help="Round trips of random strings, instead.",
)
@click.option("--only", default="", help="A part of the name of the operations to time.")
@click.option(
    "--longest",
    default=20.0,
    show_default=True,
    help="Seconds after which no larger text is tried.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="File to write the table to.")
def main(count: int, only: str, longest: float, out: Path | None) -> None:
    """Time every operation on every kind of hostile text, or send random strings there and back."""
    torch.set_num_threads(1)
    found = vocabularies()
    begin = time.perf_counter()
    if count:
        click.echo(f"{round_trips(found, count)} ({time.perf_counter() - begin:.0f} s)")
        return
    console = Console(width=120, record=True)
    console.print(growth(*found, only, longest))
    if out:
        out.write_text(console.export_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
