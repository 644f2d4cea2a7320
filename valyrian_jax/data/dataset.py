"""Datasets: training batches as a function of (seed, step), and an evaluation set.

Only `open_dataset` asks whether a path is a text or a directory of shards.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Int

from valyrian_jax.config import Config
from valyrian_jax.data.overlap import Overlap
from valyrian_jax.data.shards.dataset import open_shard_dataset
from valyrian_jax.data.shards.index import INDEX_NAME, TOKENIZER_NAME
from valyrian_jax.data.shards.mixture import mix, parse_mixture
from valyrian_jax.data.shards.shard_set import is_shard_directory
from valyrian_jax.data.split import DataSplit
from valyrian_jax.data.split_record import SplitRecord
from valyrian_jax.data.text_dataset import open_text_dataset
from valyrian_jax.data.windows import EvalSet
from valyrian_jax.errors import UserError, shorten
from valyrian_jax.files import is_url
from valyrian_jax.tokenizer import Tokenizer


class Dataset(Protocol):
    """Token windows of one text; `TextDataset` and `ShardDataset` implement it."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the text is encoded with."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the text or of the shards; a run resumes only with the same one."""

    @property
    def eval_set(self) -> EvalSet:
        """Windows that cover every held-out token once."""

    @property
    def entropy(self) -> float | None:
        """Entropy of the held-out part in bits per byte, a bound for every model; None: unknown."""

    @property
    def overlap(self) -> Overlap | None:
        """How much of the held-out part also occurs in the training part; None: not measured."""

    @property
    def training_sentences(self) -> frozenset[str] | None:
        """Sentences of the training part, which samples may repeat; None: not from the grammar."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the text for the user, one line each."""

    def batches(self, step: int, count: int, rows: slice = slice(None)) -> Int[np.ndarray, "N B W"]:
        """Return the batches of `count` steps from `step` on, int32 [N, B, T + 1].

        Args:
            step: First step.
            count: Number of steps, N.
            rows: Rows of each batch to make; the other rows belong to other devices.
        """

    def read_documents(self) -> DataSplit | None:
        """Read the text again and split it; None if it does not fit into memory."""

    def record_split(self) -> SplitRecord:
        """Return what a run records about the split."""

    def describe(self) -> str:
        """Describe the text in one line."""


def open_dataset(config: Config, tokenizer: Tokenizer | None, scratch: Path) -> Dataset:
    """Open the text or the shards of a run.

    Args:
        config: Configuration of the run.
        tokenizer: Tokenizer of the run or bundle that this run continues; None: the configured
            one, that of the shards, or one trained on the training part.
        scratch: Directory for a temporary file with the tokens of a large text.

    Raises:
        UserError: The text is missing, unreadable or too short, or the tokenizer does not match
            the model or the shards.
    """
    path, name = Path(config.data.path), "the tokenizer of the run or bundle to continue"
    if tokenizer is None and config.data.tokenizer:
        tokenizer = Tokenizer.load(config.data.tokenizer)
        name = f"the tokenizer {config.data.tokenizer}"
    if path.name in (INDEX_NAME, TOKENIZER_NAME) and path.with_name(INDEX_NAME).exists():
        raise UserError(
            f"data.path = {path} is a file of a shard directory; set --data.path {path.parent}"
        )
    if is_shard_directory(config.data.path):
        first = open_shard_dataset(config, config.data.path, tokenizer, name)
        if not config.data.mixture:
            return first
        paths, weights = parse_mixture(config.data.mixture)
        others = (open_shard_dataset(config, path, tokenizer, name) for path in paths)
        return mix(config, [first, *others], [1.0, *weights])
    if config.data.mixture:
        raise UserError(
            f"data.mixture needs shards as data.path: expected a directory of them, found the text "
            f"{shorten(config.data.path)}; encode it with `tokenizer encode --out`"
        )
    try:
        is_url(config.data.path) or path.stat()
    except (OSError, ValueError) as error:  # ValueError: the path contains a NUL.
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"cannot read the text {shorten(str(path))}: {reason}; expected the name of a file or "
            "of a directory of shards: put it back, or name another with --data.path; a text "
            "itself goes into a file"
        ) from error
    return open_text_dataset(config, tokenizer, scratch)
