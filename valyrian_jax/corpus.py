"""The text of a run, made ready: read, split, tokenized, with what is said about it."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from valyrian_jax import data, source
from valyrian_jax.config import Config
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer, train_bpe


class Text(NamedTuple):
    """A corpus as it was read."""

    parts: data.Split
    size: int  # bytes
    sha256: str


class HeldOut(NamedTuple):
    """What evaluation covers."""

    windows: data.Windows
    size: int  # bytes, for bits per byte


class Corpus(NamedTuple):
    """Tokens to train on and windows to evaluate on.

    Attributes:
        entropy: of the held-out part, in bits per byte, if it is known: no model's loss can be expected below it.
        sentences: those of the training part, if the text comes from the language's grammar; else None. Texts of a
            model trained on it can then be judged.
    """

    tokenizer: Tokenizer
    train: data.Tokens
    held_out: HeldOut
    sha256: str
    summary: str
    entropy: float | None
    sentences: frozenset[str] | None


def read(config: Config) -> Text:
    """Read and split the text of a run.

    Raises:
        UserError: it is missing, unreadable or too short to split.
    """
    text = data.read_text(config.data.path)
    encoded = text.encode()
    return Text(data.split(text, config.data.held_out), len(encoded), hashlib.sha256(encoded).hexdigest())


def prepare(config: Config, tokenizer: Tokenizer | None, directory: Path) -> Corpus:
    """Make the corpus of a run.

    Args:
        config: of the run.
        tokenizer: to use; None: the configured one, or one trained on the training part.
        directory: of the run; a large text has its tokens there while the process lives.

    Returns:
        The corpus.

    Raises:
        UserError: the text is missing, unreadable or too short, or the tokenizer does not fit the model.
    """
    text = read(config)
    if tokenizer is None and config.data.tokenizer:
        tokenizer = Tokenizer.load(config.data.tokenizer)
    if tokenizer is None:
        tokenizer = train_bpe(text.parts.train, config.model.vocab_size)  # the held-out part must not shape it
    if tokenizer.vocab_size != config.model.vocab_size:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, but model.vocab_size = {config.model.vocab_size}; "
            f"set --model.vocab_size {tokenizer.vocab_size}"
        )
    train = data.tokenize(text.parts.train, tokenizer, directory)
    data.batch(train, 0, 0, 1, config.model.n_positions)  # complains now if the text is too short
    held_out = hold_out(text, config, tokenizer, directory)
    summary = (
        f"{config.data.path}: {text.size:,} bytes; {len(train):,} tokens to train on, "
        f"{held_out.windows.counted.sum():,} held out; "
        f"{data.overlap(text.parts):.1%} of the held-out sentences also stand in the training part"
    )
    known = source.load(config.data.path, text.sha256)
    entropy = source.floor(known, text.parts.held_out).bits_per_byte if known else None
    if entropy is not None:
        summary += f"; entropy {entropy:.4f} bits per byte"
    sentences = frozenset(data.sentences(text.parts.train)) if known else None
    return Corpus(tokenizer, train, held_out, text.sha256, summary, entropy, sentences)


def hold_out(text: Text, config: Config, tokenizer: Tokenizer, directory: Path) -> HeldOut:
    """The held-out part of a text as windows of the model's context length."""
    tokens = data.tokenize(text.parts.held_out, tokenizer, directory)
    cut = data.windows(tokens, config.train.batch_size, config.model.n_positions)
    return HeldOut(cut, data.byte_count(text.parts.held_out))
