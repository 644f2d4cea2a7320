"""Compare encoding and decoding with other exact encoders, by language and by length of the text.

All encoders use our vocabulary and GPT-2's pre-tokenizer, and their ids are compared before they
are timed; `rs_bpe` takes only its own vocabulary (cl100k), so it does other work of the same kind.
Times are processor time of one thread.
"""

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Any

os.environ["RAYON_NUM_THREADS"] = "1"  # before the encoders written in Rust are imported

import fastokens
import gigatoken
import rs_bpe
import texts
from measuring import ROOT, Row, measure_in_turns

from tests.support.oracles import make_tiktoken
from valyrian_jax.tokenizer import Tokenizer, train_bpe

_SHORT_TEXTS_BYTES = 2_000_000  # enough pieces for a steady figure


def measure(rounds: int) -> Iterator[Row]:
    """Measure every language and length."""
    source = texts.load_python_source()
    yield from measure_lengths("Python source", source, 32768, [50, 2000, len(source)], rounds)
    docstrings = "\n\n".join(texts.load_docstrings()).replace("<|endoftext|>", "")[:16_000_000]
    yield from measure_lengths("English", docstrings, 32768, [2000, len(docstrings)], rounds)
    corpus = (ROOT / "data" / "High Valyrian.txt").read_text(encoding="utf-8")
    yield from measure_lengths("shipped corpus", corpus, 500, [2000, len(corpus)], rounds)
    mixed = make_mixed_scripts()
    yield from measure_lengths("Chinese, Arabic, emoji", mixed, 32768, [2000, len(mixed)], rounds)


def measure_lengths(
    language: str, text: str, vocab_size: int, lengths: list[int], rounds: int
) -> Iterator[Row]:
    """Measure the text cut into pieces of each length."""
    tokenizer = train_bpe([text], vocab_size)
    tokenizer.compile()
    encoders = make_encoders(tokenizer)
    for length in lengths:
        size = min(len(text), max(_SHORT_TEXTS_BYTES, length))
        pieces = [text[i : i + length] for i in range(0, size, length)]
        name = f"{language}, {'whole' if length == len(text) else f'pieces of {length}'}"
        yield from measure_pieces(name, pieces, tokenizer, encoders, rounds)


def make_encoders(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the other encoders with the tokenizer's vocabulary."""
    path = texts.CACHE / "encoding.json"
    tokenizer.save(path)
    return {
        "tiktoken": make_tiktoken(tokenizer),
        "gigatoken": gigatoken.Tokenizer.from_json(path.read_text(encoding="utf-8")),
        "fastokens": fastokens.Tokenizer.from_file(str(path)),
        "rs_bpe": rs_bpe.openai.cl100k_base(),
    }


def measure_pieces(
    name: str, pieces: list[str], ours: Tokenizer, encoders: Mapping[str, Any], rounds: int
) -> Iterator[Row]:
    """Measure encoding to lists and to arrays, and decoding."""
    tiktoken, giga, fast, rs = encoders.values()
    to_list: dict[str, Callable[[str], list[int]]] = {
        "ours": ours.encode,
        "tiktoken": tiktoken.encode_ordinary,
        "gigatoken": lambda text: giga.encode(text).tolist(),
        "fastokens": lambda text: fast.encode(text).ids,
    }
    ids = [ours.encode(piece) for piece in pieces]
    for encoder, encode in to_list.items():
        assert [encode(piece) for piece in pieces] == ids, encoder
    to_list["rs_bpe, its own vocabulary"] = rs.encode
    megabytes = sum(len(piece.encode()) for piece in pieces) / 1e6
    yield measure_calls(f"encoding {name}, to a list", to_list, pieces, megabytes, rounds)
    to_array = {"ours": ours.encode_array, "gigatoken": giga.encode}
    yield measure_calls(f"encoding {name}, to an array", to_array, pieces, megabytes, rounds)
    decoders = {
        "ours": ours.decode_bytes,
        "tiktoken": tiktoken.decode_bytes,
        "gigatoken": giga.decode,
    }
    for encoder, decode in decoders.items():
        assert b"".join(map(decode, ids)) == "".join(pieces).encode(), encoder
    yield measure_calls(f"decoding {name}, to bytes", decoders, ids, megabytes, rounds)


def measure_calls(
    title: str, functions: Mapping[str, Callable], inputs: list, megabytes: float, rounds: int
) -> Row:
    """Measure the functions in turns, each on all inputs."""

    def measure_speed(function: Callable) -> float:
        start = time.process_time()
        for value in inputs:
            function(value)
        return megabytes / (time.process_time() - start)

    tasks = {name: lambda f=function: measure_speed(f) for name, function in functions.items()}
    return Row(title, "MB/s", measure_in_turns(tasks, rounds))


def make_mixed_scripts(size: int = 1_500_000) -> str:
    """Return `size` characters of random words in three scripts, by Zipf's law."""
    rng = random.Random(0)
    scripts = (range(0x4E00, 0x5400), range(0x0627, 0x064B), range(0x1F600, 0x1F640))
    words = [
        "".join(map(chr, rng.choices(script, k=rng.randint(1, 8))))
        for script in scripts
        for _ in range(10_000)
    ]
    rng.shuffle(words)
    weights = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))
    return " ".join(rng.choices(words, cum_weights=weights, k=size // 5))[:size]
