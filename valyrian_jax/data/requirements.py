"""What a run requires of a text, and settings that work for a text that has less.

One message names all requirements that a text does not meet. The options that it advises were
checked with that text, so a run with them starts.
"""

from collections.abc import Sequence
from typing import NamedTuple

from valyrian_jax.config import Config
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer, VocabularySizeError, train_bpe

_SMALLEST_VOCABULARY = 257
_SHORTEST_CONTEXT = 2
_LARGEST_ADVISED_SHARE = 0.5
_USE_MORE_TEXT = "use more text, or "


class Shortage(NamedTuple):
    """A requirement that a text does not meet."""

    problem: str  # what the text has, and what a setting needs
    options: str  # options with which it is met
    advice: str = _USE_MORE_TEXT  # what else meets it


def fit_tokenizer(
    documents: Sequence[str], config: Config
) -> tuple[Tokenizer, tuple[Shortage, ...]]:
    """Train a tokenizer of model.vocab_size tokens, or of the size that a shortage advises."""
    try:
        return train_bpe(documents, config.model.vocab_size), ()
    except VocabularySizeError as error:
        problem = (
            f"the training part of {config.data.path} yields at most {error.largest:,} tokens of "
            f"vocabulary, but model.vocab_size = {config.model.vocab_size}"
        )
        size = choose_vocab_size(error.largest)
        return train_bpe(documents, size), (Shortage(problem, f"--model.vocab_size {size}"),)


def find_vocabulary_shortages(tokenizer: Tokenizer, config: Config) -> tuple[Shortage, ...]:
    """Return a shortage if the tokenizer and the model differ in their vocabulary size."""
    size = tokenizer.vocab_size
    if size == config.model.vocab_size:
        return ()
    problem = f"the tokenizer has {size} tokens, but model.vocab_size = {config.model.vocab_size}"
    return (Shortage(problem, f"--model.vocab_size {size}", advice=""),)


def find_context_shortages(training_tokens: int, config: Config) -> tuple[Shortage, ...]:
    """Return a shortage if the training part is shorter than a window of T + 1 tokens."""
    length = config.model.n_positions
    if training_tokens > length:
        return ()
    problem = (
        f"the training part has {training_tokens:,} tokens, but model.n_positions = {length} needs "
        f"at least {length + 1}"
    )
    options = f"--model.n_positions {choose_context(training_tokens)}"
    if config.data.held_out > _LARGEST_ADVISED_SHARE:
        # A window of the shortest context fits into half of any text or shards.
        options += f" --data.held_out {_LARGEST_ADVISED_SHARE}"
    return (Shortage(problem, options),)


def choose_vocab_size(largest: int) -> int:
    """Return a round size with half the merges of a text; the last merges occur only once."""
    size = (_SMALLEST_VOCABULARY + largest) // 2
    return max(size - size % 10, _SMALLEST_VOCABULARY)


def choose_context(training_tokens: int) -> int:
    """Return the largest power of two that leaves half of the tokens as starts of windows."""
    longest = max((training_tokens - 1) // 2, _SHORTEST_CONTEXT)
    return 1 << (longest.bit_length() - 1)


def count_tokens(documents: Sequence[str], tokenizer: Tokenizer, enough: int) -> int:
    """Return the number of tokens of documents; if that is `enough` or more, any such number.

    Every document has at least one token, and no token has more bytes than the longest one. So the
    beginning of a long text is sufficient to know that it has enough tokens.
    """
    characters = enough * max(map(len, tokenizer.tokens))
    beginning = [document[:characters] for document in documents[:enough]]
    ids, ends = tokenizer.encode_documents(beginning)
    return 1 + len(ids) + len(ends)  # with <|endoftext|> before, between and after them


def refuse(shortages: Sequence[Shortage]) -> None:
    """Refuse a text that does not meet its requirements, all of them in one message."""
    if shortages:
        problems = "; ".join(shortage.problem for shortage in shortages)
        advice = max(shortage.advice for shortage in shortages)
        options = " ".join(shortage.options for shortage in shortages)
        raise UserError(f"{problems}; {advice}set {options}")
