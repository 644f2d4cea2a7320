"""The dataset of shards: windows that are reshuffled every epoch and read from disk when needed.

Windows begin at every T-th token. A batch is a function of the seed and the step, so unlike with
`grain` there is no state of a loader to save in checkpoints.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from valyrian_jax.config import Config
from valyrian_jax.data.requirements import find_context_shortages, find_vocabulary_shortages, refuse
from valyrian_jax.data.shards.index import INDEX_NAME, TOKENIZER_NAME, hash_index
from valyrian_jax.data.shards.permutation import permute
from valyrian_jax.data.shards.shard_set import ShardSet, read_tokens
from valyrian_jax.data.shards.split import ShardSplit, split_shards
from valyrian_jax.data.split_record import SplitRecord, record_split
from valyrian_jax.data.text import DOCUMENT_SEPARATOR, Tokens
from valyrian_jax.data.windows import EvalSet, make_eval_windows
from valyrian_jax.errors import UserError
from valyrian_jax.files import localize
from valyrian_jax.tokenizer import Tokenizer


@dataclass(frozen=True)
class ShardDataset:
    """A `valyrian_jax.data.dataset.Dataset` of shards."""

    config: Config
    path: str
    split: ShardSplit
    entropy: None = None
    overlap: None = None
    training_sentences: None = None
    notes: tuple[str, ...] = ()

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the shards."""
        return self.split.shards.tokenizer

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the contents of the shards."""
        return hash_index(self.split.shards.index)

    def batches(self, step: int, count: int, rows: slice = slice(None)) -> npt.NDArray[np.int32]:
        """Return the next windows of the epoch; see `valyrian_jax.data.dataset.Dataset`."""
        train, length = self.config.train, self.config.model.n_positions
        return np.stack(
            [
                read_batch(self.split, train.seed, step + i, train.batch_size, length, rows)
                for i in range(count)
            ]
        )

    @cached_property
    def eval_set(self) -> EvalSet:
        """Windows of the held-out part, in batches as large as a microbatch of training."""
        train, tokens = self.config.train, read_held_out(self.split)
        windows = make_eval_windows(
            tokens, train.batch_size // train.accumulate, self.config.model.n_positions
        )
        return EvalSet(windows, count_token_bytes(tokens, self.tokenizer))

    def read_documents(self) -> None:
        """Return None: the text does not fit into memory."""

    def record_split(self) -> SplitRecord:
        """Return what a run records about the split."""
        return record_split(self.split.training_tokens, self.eval_set)

    def describe(self) -> str:
        """Describe the shards in one line."""
        index, cut = self.split.shards.index, self.split.description
        return (
            f"{self.path}: {index.size:,} bytes in {index.documents:,} documents and "
            f"{len(index.shards):,} shards; {self.split.training_tokens:,} training and "
            f"{self.split.held_out_tokens - 1:,} held-out tokens; the overlap of the two parts is "
            f"not measured{cut and f'; {cut}'}"
        )


class TokenizerMismatchError(UserError):
    """The shards were encoded with another tokenizer than that of the run."""


def open_shard_dataset(
    config: Config, path: str, tokenizer: Tokenizer | None, name: str
) -> ShardDataset:
    """Open and split the shards of a run.

    Args:
        config: Configuration of the run.
        path: Directory or URL of the shards.
        tokenizer: Tokenizer of the run; None: that of the shards.
        name: Name of the run's tokenizer in messages.

    Raises:
        TokenizerMismatchError: The shards are encoded with another tokenizer.
        UserError: The shards are damaged, or too short for the run.
    """
    split = split_shards(localize(path), config.data.held_out)
    if tokenizer is not None and tokenizer.sha256 != split.shards.tokenizer.sha256:
        directory = split.shards.directory
        raise TokenizerMismatchError(
            f"the shards in {directory} do not fit {name}: expected shards encoded with it, found "
            f"shards encoded with {directory / TOKENIZER_NAME}, another tokenizer; encode the text "
            "again with the first into another --out, or start a new run with the second"
        )
    shortages = find_vocabulary_shortages(split.shards.tokenizer, config)
    refuse([*shortages, *find_context_shortages(split.training_tokens, config)])
    return ShardDataset(config, path, split)


def read_batch(
    split: ShardSplit, seed: int, step: int, batch_size: int, length: int, rows: slice = slice(None)
) -> npt.NDArray[np.int32]:
    """Read the training batch of one step, int32 [B, T + 1]: the next windows of the epoch.

    A step takes the next B windows, also across the end of an epoch, and reads `rows` of them: the
    other rows belong to other devices.
    """
    return read_windows(split, seed, step * batch_size + np.arange(batch_size)[rows], length)


def read_windows(
    split: ShardSplit, seed: int, numbers: npt.NDArray[np.int64], length: int
) -> npt.NDArray[np.int32]:
    """Read windows by their numbers since the first step, int32 [R, T + 1].

    Window w begins at token w T, so each target of the training part comes once an epoch, except
    for fewer than T at its end.
    """
    windows = (split.training_tokens - 1) // length
    epochs, indices = np.divmod(numbers, windows)
    batch = np.empty((len(epochs), length + 1), np.int32)
    for epoch in np.unique(epochs).tolist():
        of_epoch = np.flatnonzero(epochs == epoch)
        shuffled = permute(indices[of_epoch].astype(np.uint64), windows, seed, epoch)
        for row, window in zip(of_epoch.tolist(), shuffled.tolist(), strict=True):
            batch[row] = read_tokens(split.shards, window * length, length + 1)
    check_token_ids(split.shards, batch)
    return batch


def read_held_out(split: ShardSplit) -> Tokens:
    """Read the held-out part, the same tokens as `encode_documents` returns for it."""
    tokens = read_tokens(split.shards, split.cut, split.held_out_tokens)
    check_token_ids(split.shards, tokens)
    return tokens


def count_token_bytes(tokens: Tokens, tokenizer: Tokenizer) -> int:
    """Return the bytes of held-out documents, with a blank line for every <|endoftext|>."""
    lengths = np.array([len(token) for token in tokenizer.tokens], np.int32)
    lengths[tokenizer.end_of_text] = len(DOCUMENT_SEPARATOR)
    return int(lengths[tokens[1:]].sum())


def check_token_ids(shards: ShardSet, tokens: npt.NDArray[np.integer]) -> None:
    """Check token ids; JAX would silently read the last token in place of one out of range."""
    if (largest := tokens.max(initial=0)) >= shards.index.vocab_size:
        raise UserError(
            f"the shards in {shards.directory} are damaged: expected token ids below "
            f"{shards.index.vocab_size}, found {largest}; compare the files with the SHA-256 in "
            f"{INDEX_NAME}, or encode the text again"
        )
