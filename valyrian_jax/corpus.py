"""The text of a run, made ready: read, split, tokenized, with what is said about it."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from valyrian_jax import data
from valyrian_jax.config import Config
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer, train_bpe


class Corpus(NamedTuple):
    """Tokens to train on and windows to evaluate on."""

    tokenizer: Tokenizer
    train: data.Tokens
    held_out: data.Windows
    held_out_bytes: int
    sha256: str
    summary: str


def prepare(config: Config, tokenizer: Tokenizer | None, directory: Path) -> Corpus:
    """Make the corpus of a run.

    Args:
        config: of the run.
        tokenizer: to use; None: the configured one, or one trained on the training part.
        directory: of the run; a large text keeps its tokens there.

    Returns:
        The corpus.

    Raises:
        UserError: the text is missing, unreadable or too short, or the tokenizer does not fit the model.
    """
    text = data.read_text(config.data.path)
    parts = data.split(text, config.data.held_out)
    if tokenizer is None and config.data.tokenizer:
        tokenizer = Tokenizer.load(config.data.tokenizer)
    if tokenizer is None:
        tokenizer = train_bpe(parts.train, config.model.vocab_size)  # held-out text must not shape the vocabulary
    if tokenizer.vocab_size != config.model.vocab_size:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, but model.vocab_size = {config.model.vocab_size}; "
            f"set --model.vocab_size {tokenizer.vocab_size}"
        )
    train = data.tokenize(parts.train, tokenizer, directory / "tokens" / "train.bin")
    held_out = data.tokenize(parts.held_out, tokenizer, directory / "tokens" / "held_out.bin")
    data.batch(train, 0, 0, 1, config.model.n_positions)  # complains now if the text is too short
    summary = (
        f"{config.data.path}: {len(text.encode()):,} bytes; {len(train):,} tokens to train on, {len(held_out):,} "
        f"held out; {data.overlap(parts):.1%} of the held-out sentences also stand in the training part"
    )
    return Corpus(
        tokenizer,
        train,
        data.windows(held_out, config.train.batch_size, config.model.n_positions),
        data.byte_count(parts.held_out),
        hashlib.sha256(text.encode()).hexdigest(),
        summary,
    )
