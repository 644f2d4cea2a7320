"""The dataset of a text that fits into memory: windows at random positions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from valyrian_jax.config import Config
from valyrian_jax.data.corpus_entropy import entropy_floor, load_source
from valyrian_jax.data.overlap import Overlap, find_sentences, measure_overlap
from valyrian_jax.data.reading.text_loader import Text, load_text
from valyrian_jax.data.requirements import (
    count_tokens,
    find_context_shortages,
    find_vocabulary_shortages,
    fit_tokenizer,
    refuse,
)
from valyrian_jax.data.split import DataSplit, split_documents
from valyrian_jax.data.split_record import SplitRecord, record_split
from valyrian_jax.data.text import Tokens, count_bytes, encode_documents
from valyrian_jax.data.windows import EvalSet, make_eval_windows, sample_batch
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.tokenizer.display import count_noun


@dataclass(frozen=True)
class TextDataset:
    """A `valyrian_jax.data.dataset.Dataset` of a text, which itself does not stay in memory."""

    config: Config
    size: int  # bytes of the whole text
    documents: tuple[int, int]  # training and held-out
    fingerprint: str
    tokenizer: Tokenizer
    training_tokens: Tokens
    eval_set: EvalSet
    overlap: Overlap
    cut: str  # of `DataSplit`
    entropy: float | None
    training_sentences: frozenset[str] | None
    notes: tuple[str, ...] = ()

    def batches(self, step: int, count: int, rows: slice = slice(None)) -> npt.NDArray[np.int32]:
        """Return windows at random positions; see `valyrian_jax.data.dataset.Dataset`."""
        train, length = self.config.train, self.config.model.n_positions
        return np.stack(
            [
                sample_batch(
                    self.training_tokens, train.seed, step + i, train.batch_size, length, rows
                )
                for i in range(count)
            ]
        )

    def read_documents(self) -> DataSplit:
        """Read the text again and split it.

        Raises:
            UserError: The text has changed.
        """
        text = _read_text(self.config)
        if text.fingerprint != self.fingerprint:
            raise UserError(
                f"{self.config.data.path} has changed: expected SHA-256 {self.fingerprint}, found "
                f"{text.fingerprint}; run the command again"
            )
        return split_documents(text.documents, self.config.data.held_out)

    def record_split(self) -> SplitRecord:
        """Return what a run records about the split."""
        return record_split(len(self.training_tokens), self.eval_set)

    def describe(self) -> str:
        """Describe the text in one line."""
        floor = "" if self.entropy is None else f"; entropy {self.entropy:.4f} bits per byte"
        cut = self.cut and f"; {self.cut}"
        return (
            f"{self.config.data.path}: {self.size:,} bytes; {len(self.training_tokens):,} "
            f"training and {self.eval_set.windows.counted.sum():,} held-out tokens in "
            f"{self.documents[0]:,} and {count_noun(self.documents[1], 'document')}; "
            f"{self.overlap.share:.1%} of the held-out {self.overlap.unit} are also in the "
            f"training part{cut}{floor}"
        )


def open_text_dataset(config: Config, tokenizer: Tokenizer | None, scratch: Path) -> TextDataset:
    """Read, split and encode the text of a run; see `valyrian_jax.data.dataset.open_dataset`.

    Without a tokenizer, one is trained on the training part.
    """
    text = _read_text(config)
    documents = split_documents(text.documents, config.data.held_out)
    source = load_source(config.data.path, text.fingerprint)
    floor = None
    if source and not documents.cut:  # the source has the bits of whole documents
        floor = entropy_floor(source, documents.held_out).bits_per_byte
    if tokenizer is None:  # the held-out part must not influence it
        tokenizer, shortages = fit_tokenizer(documents.train, config)
    else:
        shortages = find_vocabulary_shortages(tokenizer, config)
    enough = config.model.n_positions + 1
    count = count_tokens(documents.train, tokenizer, enough)
    refuse([*shortages, *find_context_shortages(count, config)])
    training_sentences = frozenset(find_sentences(documents.train)) if source else None
    return TextDataset(
        config=config,
        size=text.size,
        documents=(len(documents.train), len(documents.held_out)),
        fingerprint=text.fingerprint,
        tokenizer=tokenizer,
        training_tokens=encode_documents(documents.train, tokenizer, scratch),
        eval_set=make_eval_set(documents.held_out, tokenizer, config, scratch),
        overlap=measure_overlap(documents, training_sentences),
        cut=documents.cut,
        entropy=floor,
        training_sentences=training_sentences,
        notes=text.notes,
    )


def _read_text(config: Config) -> Text:
    """Read the text of a run."""
    return load_text(config.data.path, config.data.text_key, config.data.separator)


def make_eval_set(
    documents: list[str], tokenizer: Tokenizer, config: Config, scratch: Path
) -> EvalSet:
    """Return windows of held-out documents, in batches as large as a microbatch of training."""
    tokens = encode_documents(documents, tokenizer, scratch)
    rows = config.train.batch_size // config.train.accumulate
    return EvalSet(
        make_eval_windows(tokens, rows, config.model.n_positions), count_bytes(documents)
    )
