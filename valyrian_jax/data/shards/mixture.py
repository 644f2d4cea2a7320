"""A mixture of several shard sets: each batch has rows of all of them, in exact proportions.

Which set a row comes from is a function of the seed and the row's number, and so is its window in
that set. There is no state to save, and a resumed run continues with the same rows.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from valyrian_jax.config import Config
from valyrian_jax.data.shards.dataset import ShardDataset, read_held_out, read_windows
from valyrian_jax.data.shards.index import hash_index
from valyrian_jax.data.split_record import SplitRecord, record_split
from valyrian_jax.data.windows import EvalSet, make_eval_windows
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer

PERIOD = 10_000  # rows after which the order of the sets repeats; shares are multiples of 1/PERIOD
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MixtureDataset:
    """A `valyrian_jax.data.dataset.Dataset` of several shard sets with one tokenizer."""

    config: Config
    sets: tuple[ShardDataset, ...]
    weights: tuple[float, ...]
    entropy: None = None
    overlap: None = None
    training_sentences: None = None
    notes: tuple[str, ...] = ()

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of all sets."""
        return self.sets[0].tokenizer

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the contents and the weights of the sets."""
        hashes = [hash_index(part.split.shards.index) for part in self.sets]
        content = json.dumps([[*pair] for pair in zip(hashes, self.weights, strict=True)])
        return hashlib.sha256(content.encode()).hexdigest()

    @cached_property
    def order(self) -> npt.NDArray[np.int64]:
        """The number of the set of each row of one period, int64[PERIOD]."""
        return order_rows(self.weights, self.config.train.seed)

    def batches(self, step: int, count: int, rows: slice = slice(None)) -> npt.NDArray[np.int32]:
        """Return rows of all sets; see `valyrian_jax.data.dataset.Dataset`."""
        train, length = self.config.train, self.config.model.n_positions
        steps = np.arange(step, step + count)[:, None]
        numbers = (steps * train.batch_size + np.arange(train.batch_size)[rows]).reshape(-1)
        chosen, positions = find_rows(self.order, numbers)
        windows = np.empty((len(numbers), length + 1), np.int32)
        for number, part in enumerate(self.sets):
            of_set = np.flatnonzero(chosen == number)
            # Sets of equal size would have the same order of windows with the same seed.
            seed = train.seed + (number << 32)
            windows[of_set] = read_windows(part.split, seed, positions[of_set], length)
        return windows.reshape(count, -1, length + 1)

    @cached_property
    def eval_set(self) -> EvalSet:
        """Windows of the held-out parts of all sets, one after another."""
        train = self.config.train
        first, *others = [read_held_out(part.split) for part in self.sets]
        # The first token of a held-out part is context only; the last one of the previous part can
        # take its place.
        tokens = np.concatenate([first, *(part[1:] for part in others)])
        rows = train.batch_size // train.accumulate
        windows = make_eval_windows(tokens, rows, self.config.model.n_positions)
        return EvalSet(windows, sum(part.eval_set.text_bytes for part in self.sets))

    def read_documents(self) -> None:
        """Return None: the text does not fit into memory."""

    def record_split(self) -> SplitRecord:
        """Return what a run records about the split."""
        tokens = sum(part.split.training_tokens for part in self.sets)
        return record_split(tokens, self.eval_set)

    def describe(self) -> str:
        """Describe the sets and their shares in one line."""
        total = sum(self.weights)
        shares = (
            f"{weight / total:.1%} {part.describe()}"
            for part, weight in zip(self.sets, self.weights, strict=True)
        )
        return "a mixture of " + "; and ".join(shares)


def mix(config: Config, sets: Sequence[ShardDataset], weights: Sequence[float]) -> MixtureDataset:
    """Return a mixture, after checking that its sets have one tokenizer.

    Raises:
        UserError: The tokenizers differ, or a weight is too small to be exact.
    """
    first = sets[0]
    for part, weight in zip(sets, weights, strict=True):
        if part.tokenizer.sha256 != first.tokenizer.sha256:
            raise UserError(
                f"cannot mix {part.split.shards.directory} with {first.split.shards.directory}: "
                "expected shards of one tokenizer, found two; encode both with the same tokenizer"
            )
        if weight / sum(weights) < 1 / PERIOD:
            raise UserError(
                f"the weight {weight:g} of {part.split.shards.directory} is too small: expected a "
                f"share of at least 1/{PERIOD:,}, found {weight / sum(weights):g}; raise it"
            )
    return MixtureDataset(config, tuple(sets), tuple(weights))


def parse_mixture(entries: Sequence[str]) -> tuple[list[str], list[float]]:
    """Return the directories and the weights of entries such as "books=0.5"."""
    names, _, weights = zip(*(entry.rpartition("=") for entry in entries), strict=True)
    return [*names], [*map(float, weights)]


def order_rows(weights: Sequence[float], seed: int) -> Int64:
    """Return the number of the set of each row of a period, int64[PERIOD].

    Each set gets its share of the rows, rounded by the largest-remainder method and spread evenly;
    the seed shifts the order.
    """
    exact = np.array(weights) / sum(weights) * PERIOD
    counts = np.floor(exact).astype(np.int64)
    largest = np.argsort(counts - exact, kind="stable")[: PERIOD - int(counts.sum())]
    counts[largest] += 1
    positions = np.concatenate([(np.arange(count) + 0.5) / count for count in counts.tolist()])
    chosen = np.repeat(np.arange(len(counts)), counts)[np.argsort(positions, kind="stable")]
    return np.roll(chosen, seed % PERIOD)


def find_rows(order: Int64, numbers: Int64) -> tuple[Int64, Int64]:
    """Return the set of each row and the number of rows of that set before it, int64[R] each.

    Args:
        order: Sets of the rows of one period.
        numbers: int64[R], numbers of rows since the first step.
    """
    periods, offsets = np.divmod(numbers, len(order))
    is_set = order == np.arange(order.max() + 1)[:, None]  # bool[S, PERIOD]
    before = np.cumsum(is_set, axis=1) - is_set
    chosen = order[offsets]
    return chosen, periods * is_set.sum(axis=1)[chosen] + before[chosen, offsets]
