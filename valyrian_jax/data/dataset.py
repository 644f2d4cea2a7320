"""The text of a run, made ready: read, split, tokenized, with what is said about it."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from valyrian_jax.config import Config
from valyrian_jax.data import shard_dataset, shards
from valyrian_jax.data.corpus_entropy import entropy_floor, load_source
from valyrian_jax.data.text import (
    Batches,
    DataSplit,
    Tokens,
    count_bytes,
    encode_documents,
    find_sentences,
    read_corpus,
    sentence_overlap,
    split_documents,
)
from valyrian_jax.data.windows import EvalWindows, make_eval_windows, sample_batch
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer, train_bpe


class Text(NamedTuple):
    """A corpus as it was read."""

    parts: DataSplit
    size: int  # bytes
    sha256: str


class EvalSet(NamedTuple):
    """What evaluation covers."""

    windows: EvalWindows
    size: int  # bytes, for bits per byte


class Corpus(NamedTuple):
    """Tokens to train on and windows to evaluate on.

    Attributes:
        batches: a step of the run, and which of its rows -> (B, T + 1) token ids.
        entropy: of the held-out part, in bits per byte, if it is known: no model's loss can be expected below it.
        sentences: those of the training part, if the text comes from the language's grammar; else None. Texts of a
            model trained on it can then be judged.
    """

    tokenizer: Tokenizer
    batches: Batches
    held_out: EvalSet
    sha256: str
    summary: str
    entropy: float | None
    sentences: frozenset[str] | None


def read(config: Config) -> Text:
    """Read and split the text of a run.

    Raises:
        UserError: it is missing, unreadable or too short to split.
    """
    text = read_corpus(config.data.path)
    encoded = text.encode()
    return Text(split_documents(text, config.data.held_out), len(encoded), hashlib.sha256(encoded).hexdigest())


def prepare(config: Config, tokenizer: Tokenizer | None, directory: Path) -> Corpus:
    """Make the corpus of a run, from a text or from a directory of shards.

    Args:
        config: of the run.
        tokenizer: to use; None: the configured one, or that of the shards, or one trained on the training part.
        directory: of the run; a large text has its tokens there while the process lives.

    Returns:
        The corpus.

    Raises:
        UserError: the text is missing, unreadable or too short, or the tokenizer does not fit the model or the shards.
    """
    name = "the tokenizer of the run or bundle that is gone on with"
    if tokenizer is None and config.data.tokenizer:
        tokenizer, name = Tokenizer.load(config.data.tokenizer), config.data.tokenizer
    path = Path(config.data.path)
    if path.name in (shards.INDEX, shards.TOKENIZER) and (path.with_name(shards.INDEX)).exists():
        raise UserError(f"data.path = {path} is a part of shards; give their directory, {path.parent}")
    if shards.is_shard_directory(config.data.path):
        return _of_shards(config, tokenizer, name)
    return _of_text(config, tokenizer, directory)


def _of_text(config: Config, tokenizer: Tokenizer | None, directory: Path) -> Corpus:
    text = read(config)
    if tokenizer is None:
        tokenizer = train_bpe(text.parts.train, config.model.vocab_size)  # the held-out part must not shape it
    _check_size(config, tokenizer)
    train = encode_documents(text.parts.train, tokenizer, directory)
    rows, length = config.train.batch_size, config.model.n_positions

    def batches(step: int, part: slice) -> npt.NDArray[np.int32]:
        return sample_batch(train, config.train.seed, step, rows, length, part)

    batches(0, slice(1))  # complains now if the text is too short
    held_out = hold_out(text, config, tokenizer, directory)
    summary = (
        f"{config.data.path}: {text.size:,} bytes; {len(train):,} tokens to train on, "
        f"{held_out.windows.counted.sum():,} held out; "
        f"{sentence_overlap(text.parts):.1%} of the held-out sentences also stand in the training part"
    )
    known = load_source(config.data.path, text.sha256)
    entropy = entropy_floor(known, text.parts.held_out).bits_per_byte if known else None
    if entropy is not None:
        summary += f"; entropy {entropy:.4f} bits per byte"
    sentences = frozenset(find_sentences(text.parts.train)) if known else None
    return Corpus(tokenizer, batches, held_out, text.sha256, summary, entropy, sentences)


def _of_shards(config: Config, tokenizer: Tokenizer | None, name: str) -> Corpus:
    parts = read_shards(config)
    tokenizer = shard_dataset.fitting(parts.shards, tokenizer, name)
    _check_size(config, tokenizer)
    rows, length = config.train.batch_size, config.model.n_positions

    def batches(step: int, part: slice) -> npt.NDArray[np.int32]:
        return shard_dataset.batch(parts, config.train.seed, step, rows, length, part)

    batches(0, slice(1))  # complains now if the text is too short
    index = parts.shards.index
    summary = (
        f"{config.data.path}: {index.size:,} bytes in {index.documents:,} documents and {len(index.shards):,} shards; "
        f"{parts.training:,} tokens to train on, {parts.held_out - 1:,} held out; whether held-out sentences also "
        "stand in the training part is not measured"
    )
    return Corpus(tokenizer, batches, hold_out_shards(parts, config), shards.sha256(index), summary, None, None)


def _check_size(config: Config, tokenizer: Tokenizer) -> None:
    if tokenizer.vocab_size != config.model.vocab_size:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, but model.vocab_size = {config.model.vocab_size}; "
            f"set --model.vocab_size {tokenizer.vocab_size}"
        )


def hold_out(text: Text, config: Config, tokenizer: Tokenizer, directory: Path) -> EvalSet:
    """The held-out part of a text as windows of the model's context length."""
    tokens = encode_documents(text.parts.held_out, tokenizer, directory)
    return EvalSet(_windows(tokens, config), count_bytes(text.parts.held_out))


def read_shards(config: Config) -> shard_dataset.Parts:
    """Open and split the shards of a run."""
    return shard_dataset.open_parts(Path(config.data.path), config.data.held_out)


def hold_out_shards(parts: shard_dataset.Parts, config: Config) -> EvalSet:
    """The held-out part of shards as windows of the model's context length."""
    tokens = shard_dataset.held_out_tokens(parts)
    return EvalSet(_windows(tokens, config), shard_dataset.byte_count(tokens, parts.shards.tokenizer))


def _windows(tokens: Tokens, config: Config) -> EvalWindows:
    """Windows in batches of as many as training has in memory at a time."""
    return make_eval_windows(tokens, config.train.batch_size // config.train.accumulate, config.model.n_positions)
