"""Byte-level byte-pair encoding: any bytes become token ids, and the ids become the same bytes.

Read in this order: `pretokenizer` splits text into pieces, `bpe` learns and applies merges inside a
piece, `batch` learns from many texts, `encoder` and `decoder` use them, `tokenizer` holds
the vocabulary, `hf_format` is its file. `numba_pretokenizer`, `numba_state`, `numba_bpe` and
`numba_trainer` are the first two compiled.
"""

from valyrian_jax.tokenizer.tokenizer import (
    END_OF_TEXT,
    Tokenizer,
    VocabularySizeError,
    train_bpe,
)

__all__ = ["END_OF_TEXT", "Tokenizer", "VocabularySizeError", "train_bpe"]
