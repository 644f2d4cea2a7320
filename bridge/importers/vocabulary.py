"""A tokenizer and token tables that fit each other: padded rows, and a token that ends a text."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from valyrian_jax.bundle.tensor_names import EMBEDDING, HEAD
from valyrian_jax.config import ModelConfig
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import END_OF_TEXT, Tokenizer

Array = npt.NDArray[Any]

_MULTIPLES = [1 << i for i in range(1, 11)]  # Programs pad to multiples of 2, ..., 1024 for speed.
_LIKENESS = 0.25  # The norms of untrained rows vary far less than those of trained rows.


def set_end_of_text(tokenizer: Tokenizer, end_name: str | None) -> tuple[Tokenizer, str | None]:
    """Return the tokenizer with `<|endoftext|>` as a special token, and a note if that is new.

    Args:
        tokenizer: Any tokenizer.
        end_name: Name of the special token that ends a text, if it is known.

    Raises:
        UserError: Ordinary text can become a token of that name.
    """
    special, tokens, name = tokenizer.special, tokenizer.tokens, END_OF_TEXT.encode()
    if END_OF_TEXT in special:
        return tokenizer, None
    has_end = end_name is not None and end_name in special
    if name in tokens and (
        has_end or any(tokens[a] + tokens[b] == name for a, b in tokenizer.merges)
    ):
        raise UserError(
            f"the tokenizer has {END_OF_TEXT} as a token of ordinary text, expected it to end a "
            "text; pass another with --tokenizer"
        )
    if end_name is not None and has_end:
        i, note = special[end_name], f"{end_name}, which ends a text, is now called {END_OF_TEXT}"
    elif name in tokens:
        i, note = tokens.index(name), None
    else:
        i, note = len(tokens), f"added {END_OF_TEXT} to the tokenizer, which had no such token"
    others = {other: j for other, j in special.items() if j != i}
    named = replace(
        tokenizer,
        tokens=(*tokens[:i], name, *tokens[i + 1 :]),
        special={**others, END_OF_TEXT: i},
    )
    return named, note


def fit_rows(
    model: ModelConfig,
    tensors: dict[str, Array],
    tokenizer: Tokenizer,
    stored_size: int,
    unused: int = 0,
) -> tuple[ModelConfig, dict[str, Array], str | None]:
    """Return model and tensors with a row for every token, and a note if that changes them.

    Args:
        model: Model of the checkpoint.
        tensors: Canonical tensors that fit the model.
        tokenizer: Tokenizer of the bundle.
        stored_size: Number of tokens before the end of a text was added.
        unused: Number of further rows that the checkpoint itself marks as padding.
    """
    tokens = tokenizer.vocab_size
    if model.vocab_size == stored_size < tokens:
        longer = _map_rows(tensors, _append_mean)
        return (
            replace(model, vocab_size=tokens),
            longer,
            f"the row of {END_OF_TEXT} is the mean of all other rows",
        )
    is_declared = model.vocab_size == stored_size + unused > tokens
    if is_declared or _is_padded(model.vocab_size, tokens):
        shorter = _map_rows(tensors, lambda rows: rows[:tokens])
        note = (
            f"cut {model.vocab_size - tokens:,} rows of padding from the vocabulary, which has "
            f"{tokens:,} tokens; {_describe_padding(tensors.get(HEAD, tensors[EMBEDDING]), tokens)}"
        )
        return replace(model, vocab_size=tokens), shorter, note
    return model, tensors, None


def _map_rows(tensors: dict[str, Array], function: Callable[[Array], Array]) -> dict[str, Array]:
    """Return the tensors with other token tables."""
    return {
        name: function(tensor) if name in (EMBEDDING, HEAD) else tensor
        for name, tensor in tensors.items()
    }


def _append_mean(rows: Array) -> Array:
    mean = rows.mean(0, np.float64, keepdims=True)  # In float32 the sum may overflow.
    return np.concatenate([rows, mean.astype(rows.dtype)])


def _is_padded(vocab_size: int, tokens: int) -> bool:
    """Return whether a number of rows is a number of tokens, rounded up to a multiple."""
    return vocab_size > tokens and any(
        vocab_size == -(-tokens // multiple) * multiple for multiple in _MULTIPLES
    )


def _describe_padding(head: Array, tokens: int) -> str:
    """Say whether the norms of padded rows show that no token trained them.

    Rows that are never a target all receive the same gradients, so their norms remain alike.
    """
    with np.errstate(all="ignore"):  # huge weights have infinite norms
        norms = np.linalg.norm(head, axis=1)
        kept, cut = norms[:tokens], norms[tokens:]
        is_alike = not cut.any() or (len(cut) > 1 and cut.std() < _LIKENESS * kept.std())
    ranges = f"{cut.min():.3g} to {cut.max():.3g}, the others {kept.min():.3g} to {kept.max():.3g}"
    if is_alike:
        return f"they were never the target of any token, because their norms are alike ({ranges})"
    return f"their norms do not tell whether they were trained ({ranges}), so check the tokenizer"
