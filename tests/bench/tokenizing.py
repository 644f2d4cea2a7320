"""The tokenizer beside `rustbpe`, `tokenizers` and `tiktoken`."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from unittest import mock

import rustbpe
import texts
import tiktoken
import tokenizers
from measuring import ROOT, Row, in_turns, peak_bytes, seconds
from tokenizers import models, pre_tokenizers, trainers

from valyrian_jax.tokenizer import Tokenizer, train_bpe
from valyrian_jax.tokenizer import batch as ours_texts

PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def rows(rounds: int) -> Iterator[Row]:
    """All rows about the tokenizer, that inside TorchScript aside."""
    speed = peak_bytes()
    prose, shipped = (
        texts.prose(),
        [(ROOT / "data" / "High Valyrian.txt").read_text(encoding="utf-8")],
    )
    yield training(
        "BPE training, 28 MB of docstrings, vocabulary 32,768", prose, 32768, rounds, speed
    )
    yield training("BPE training, shipped corpus, vocabulary 500", shipped, 500, 3 * rounds, speed)
    yield encoding(prose, rounds, speed)
    yield workers(prose, rounds)
    yield memory()


def training(what: str, documents: list[str], vocab_size: int, rounds: int, speed: float) -> Row:
    def theirs() -> tokenizers.Tokenizer:
        made = tokenizers.Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - 1, initial_alphabet=alphabet, show_progress=False
        )
        made.train_from_iterator(documents, trainer)
        return made

    merges = json.loads(theirs().to_str())["model"]["merges"]
    CACHED.parent.mkdir(exist_ok=True)
    train_bpe(documents, vocab_size).save(CACHED)
    assert json.loads(CACHED.read_text(encoding="utf-8"))["model"]["merges"] == merges

    def compiled() -> float:
        with mock.patch.object(ours_texts, "_COMPILED_FROM", 0):
            return seconds(lambda: train_bpe(documents, vocab_size))

    compiled()  # loads it
    work = {
        "ours": lambda: seconds(lambda: train_bpe(documents, vocab_size)),
        "ours, compiled whatever the size": compiled,
        "rustbpe": lambda: seconds(
            lambda: rustbpe.Tokenizer().train_from_iterator(
                iter(documents), vocab_size - 1, pattern=PATTERN
            )
        ),
        "tokenizers": lambda: seconds(theirs),
    }
    size = sum(len(document.encode()) for document in documents)
    return Row(what, "s", in_turns(work, rounds), size / speed, "reading the text once, one thread")


CACHED = texts.CACHE / "tokenizer.json"


def encoding(documents: list[str], rounds: int, speed: float) -> Row:
    text = "\n\n".join(documents).replace(
        "<|endoftext|>", ""
    )  # `tokenizers` always takes it for the special token
    train_bpe(documents, 32768).save(CACHED)
    ours, theirs = Tokenizer.load(CACHED), tokenizers.Tokenizer.from_file(str(CACHED))
    plain = {token: i for i, token in enumerate(ours.tokens) if i not in ours.special.values()}
    tik = tiktoken.Encoding(
        "ours", pat_str=PATTERN, mergeable_ranks=plain, special_tokens=dict(ours.special)
    )
    ids = ours.encode(text)
    assert ids == tik.encode_ordinary(text)
    assert ids == theirs.encode(text).ids
    megabytes = len(text.encode()) / 1e6
    work = {
        "ours": lambda: megabytes / seconds(lambda: ours.encode(text)),
        "tiktoken": lambda: megabytes / seconds(lambda: tik.encode_ordinary(text)),
        "tokenizers": lambda: megabytes / seconds(lambda: theirs.encode(text)),
    }
    what = "encoding 28 MB of docstrings, one thread, vocabulary 32,768, to a list"
    return Row(
        what, "MB/s", in_turns(work, rounds), speed / 1e6, "reading the text once, one thread"
    )


def workers(documents: list[str], rounds: int) -> Row:
    ours = Tokenizer.load(CACHED)
    megabytes = sum(len(document.encode()) for document in documents) / 1e6
    work = {
        f"{n} worker{'s' * (n > 1)}": lambda n=n: (
            megabytes / seconds(lambda: ours.encode_documents(documents, n))
        )
        for n in (2, 1)
    }
    return Row(
        "encoding the same as documents to an array, by workers", "MB/s", in_turns(work, rounds)
    )


# What a process has held at most since it began: getrusage would count what its parent held when it forked.
RESIDENT = """
import runpy, sys
try:
    runpy.run_module("valyrian_jax", run_name="__main__")
finally:
    lines = open("/proc/self/status").read().splitlines()
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


def memory() -> Row:
    """The whole command on a file of 1 GB."""
    options = ["tokenizer", "train", texts.bulk(), "--vocab-size", "32768", "-o", CACHED]
    begin = time.perf_counter()
    out = subprocess.run(
        [sys.executable, "-c", RESIDENT, *options],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    what = f"memory of BPE training on 1 GB, vocabulary 32,768 (in {time.perf_counter() - begin:.0f} s)"
    return Row(what, "GB", {"ours": [int(out.stdout.split()[-1]) * 1024 / 1e9]})
