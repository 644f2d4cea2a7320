"""The dataset of a text that fits into memory: windows at random positions."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from valyrian_jax.config import Config
from valyrian_jax.data.corpus_entropy import CorpusSource, entropy_floor, load_source
from valyrian_jax.data.text import (
    DataSplit,
    Tokens,
    count_bytes,
    encode_documents,
    find_sentences,
    measure_overlap,
    read_corpus,
    split_documents,
)
from valyrian_jax.data.windows import EvalSet, make_eval_windows, sample_batch
from valyrian_jax.tokenizer import Tokenizer, train_bpe


@dataclass(frozen=True)
class TextDataset:
    """A `valyrian_jax.data.dataset.Dataset` of a text, which is tokenized on first use."""

    config: Config
    documents: DataSplit
    size: int  # bytes of the whole text
    fingerprint: str
    tokenizer: Tokenizer
    source: CorpusSource | None  # None: the text was not generated
    scratch: Path

    def batches(self, step: int, count: int, rows: slice = slice(None)) -> npt.NDArray[np.int32]:
        """Return windows at random positions; see `valyrian_jax.data.dataset.Dataset`."""
        train, length = self.config.train, self.config.model.n_positions
        tokens = self._training_tokens
        return np.stack(
            [
                sample_batch(tokens, train.seed, step + i, train.batch_size, length, rows)
                for i in range(count)
            ]
        )

    @cached_property
    def eval_set(self) -> EvalSet:
        """Windows of the held-out part, in batches as large as training has in memory at a time."""
        tokens = encode_documents(self.documents.held_out, self.tokenizer, self.scratch)
        train = self.config.train
        windows = make_eval_windows(
            tokens, train.batch_size // train.accumulate, self.config.model.n_positions
        )
        return EvalSet(windows, count_bytes(self.documents.held_out))

    @cached_property
    def entropy(self) -> float | None:
        """Bits per byte of the held-out part if the corpus was generated."""
        if self.source is None:
            return None
        return entropy_floor(self.source, self.documents.held_out).bits_per_byte

    @cached_property
    def training_sentences(self) -> frozenset[str] | None:
        """Sentences of the training part if the corpus was generated."""
        return frozenset(find_sentences(self.documents.train)) if self.source else None

    def describe(self) -> str:
        """Describe the text in one line."""
        floor = "" if self.entropy is None else f"; entropy {self.entropy:.4f} bits per byte"
        return (
            f"{self.config.data.path}: {self.size:,} bytes; {len(self._training_tokens):,} "
            f"training and {self.eval_set.windows.counted.sum():,} held-out tokens; "
            f"{measure_overlap(self.documents):.1%} of the held-out sentences are also in the "
            f"training part{floor}"
        )

    @cached_property
    def _training_tokens(self) -> Tokens:
        return encode_documents(self.documents.train, self.tokenizer, self.scratch)


def open_text_dataset(config: Config, tokenizer: Tokenizer | None, scratch: Path) -> TextDataset:
    """Read and split the text of a run.

    Args:
        config: Configuration of the run.
        tokenizer: Tokenizer to use; None trains one on the training part.
        scratch: Directory for the tokens of a large text, while the process lives.

    Raises:
        UserError: The text is missing, unreadable or too short to split.
    """
    text = read_corpus(config.data.path)
    encoded = text.encode()
    fingerprint = hashlib.sha256(encoded).hexdigest()
    documents = split_documents(text, config.data.held_out)
    if tokenizer is None:  # the held-out part must not influence it
        tokenizer = train_bpe(documents.train, config.model.vocab_size)
    source = load_source(config.data.path, fingerprint)
    return TextDataset(config, documents, len(encoded), fingerprint, tokenizer, source, scratch)
