"""Byte-level byte-pair encoding: any bytes become token ids, and the ids become the same bytes.

Read in this order: `pretokenizer` splits text into pieces, `bpe` learns and applies merges inside a
piece, `batch` learns from many texts, `encoder` and `decoder` use them, `tokenizer` holds
the vocabulary, `hf_format` is its file. `numba_pretokenizer`, `numba_state`, `numba_bpe` and
`numba_trainer` are the first two compiled.

The names below are imported when one is used. `display` prints texts of all kinds and does not need
them, nor NumPy, whose import takes a tenth of a second.
"""

from typing import TYPE_CHECKING, Any

__all__ = ["END_OF_TEXT", "Tokenizer", "VocabularySizeError", "train_bpe"]

if TYPE_CHECKING:
    from valyrian_jax.tokenizer.tokenizer import (
        END_OF_TEXT,
        Tokenizer,
        VocabularySizeError,
        train_bpe,
    )
else:

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from valyrian_jax.tokenizer import tokenizer

        return getattr(tokenizer, name)
