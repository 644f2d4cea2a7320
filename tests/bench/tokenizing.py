"""Compare the tokenizer with `rustbpe`, `tokenizers` and `tiktoken`."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from unittest import mock

import rustbpe
import texts
import tokenizers
from measuring import ROOT, Row, measure_in_turns, measure_read_speed, time_call

from valyrian_jax.tokenizer import Tokenizer, batch, train_bpe

sys.path.append(str(ROOT))

from tests.support.oracles import GPT2_PATTERN, make_tiktoken, train_reference_tokenizer

SAVED = texts.CACHE / "tokenizer.json"
LIMIT_BASIS = "reading the text once, one thread"


def measure(rounds: int) -> Iterator[Row]:
    """Measure everything except the tokenizer inside TorchScript."""
    speed = measure_read_speed()
    docstrings = texts.load_docstrings()
    corpus = [(ROOT / "data" / "High Valyrian.txt").read_text(encoding="utf-8")]
    title = "BPE training, 28 MB of docstrings, vocabulary 32,768"
    yield measure_training(title, docstrings, 32768, rounds, speed)
    title = "BPE training, shipped corpus, vocabulary 500"
    yield measure_training(title, corpus, 500, 3 * rounds, speed)
    yield measure_encoding(docstrings, rounds, speed)
    yield measure_workers(docstrings, rounds)
    yield measure_memory()


def measure_training(
    title: str, documents: list[str], vocab_size: int, rounds: int, speed: float
) -> Row:
    def train_tokenizers() -> tokenizers.Tokenizer:
        return train_reference_tokenizer(documents, vocab_size)

    def train_rustbpe() -> None:
        rustbpe.Tokenizer().train_from_iterator(
            iter(documents), vocab_size - 1, pattern=GPT2_PATTERN
        )

    def time_compiled() -> float:
        with mock.patch.object(batch, "_MIN_COMPILED_BYTES", 0):
            return time_call(lambda: train_bpe(documents, vocab_size))

    merges = json.loads(train_tokenizers().to_str())["model"]["merges"]
    SAVED.parent.mkdir(exist_ok=True)
    train_bpe(documents, vocab_size).save(SAVED)
    assert json.loads(SAVED.read_text(encoding="utf-8"))["model"]["merges"] == merges
    time_compiled()  # loads the compiled code
    tasks = {
        "ours": lambda: time_call(lambda: train_bpe(documents, vocab_size)),
        "ours, compiled code for any size": time_compiled,
        "rustbpe": lambda: time_call(train_rustbpe),
        "tokenizers": lambda: time_call(train_tokenizers),
    }
    size = sum(len(document.encode()) for document in documents)
    return Row(title, "s", measure_in_turns(tasks, rounds), size / speed, LIMIT_BASIS)


def measure_encoding(documents: list[str], rounds: int, speed: float) -> Row:
    # `tokenizers` always encodes <|endoftext|> as the special token.
    text = "\n\n".join(documents).replace("<|endoftext|>", "")
    train_bpe(documents, 32768).save(SAVED)
    ours, reference = Tokenizer.load(SAVED), tokenizers.Tokenizer.from_file(str(SAVED))
    tiktoken = make_tiktoken(ours)
    ids = ours.encode(text)
    assert ids == tiktoken.encode_ordinary(text)
    assert ids == reference.encode(text).ids
    megabytes = len(text.encode()) / 1e6
    tasks = {
        "ours": lambda: megabytes / time_call(lambda: ours.encode(text)),
        "tiktoken": lambda: megabytes / time_call(lambda: tiktoken.encode_ordinary(text)),
        "tokenizers": lambda: megabytes / time_call(lambda: reference.encode(text)),
    }
    title = "encoding 28 MB of docstrings, one thread, vocabulary 32,768, to a list"
    return Row(title, "MB/s", measure_in_turns(tasks, rounds), speed / 1e6, LIMIT_BASIS)


def measure_workers(documents: list[str], rounds: int) -> Row:
    tokenizer = Tokenizer.load(SAVED)
    megabytes = sum(len(document.encode()) for document in documents) / 1e6

    def encode(workers: int) -> float:
        return megabytes / time_call(lambda: tokenizer.encode_documents(documents, workers))

    tasks = {"2 workers": lambda: encode(2), "1 worker": lambda: encode(1)}
    title = "encoding the same as documents to an array, by workers"
    return Row(title, "MB/s", measure_in_turns(tasks, rounds))


# Prints the peak memory of its process. getrusage would include the memory of the parent process
# before the fork.
PEAK_MEMORY_SCRIPT = """
import runpy, sys
try:
    runpy.run_module("valyrian_jax", run_name="__main__")
finally:
    lines = open("/proc/self/status").read().splitlines()
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


def measure_memory() -> Row:
    """Measure the memory of the whole command on a file of 1 GB."""
    file = texts.make_large_file()
    options = ["tokenizer", "train", file, "--vocab-size", "32768", "-o", SAVED]
    start = time.perf_counter()
    output = subprocess.run(
        [sys.executable, "-c", PEAK_MEMORY_SCRIPT, *options],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout
    seconds = time.perf_counter() - start
    title = f"memory of BPE training on 1 GB, vocabulary 32,768 (in {seconds:.0f} s)"
    return Row(title, "GB", {"ours": [int(output.split()[-1]) * 1024 / 1e9]})
