"""Byte-level byte-pair encoding: any bytes become token ids, and come back exactly.

Read in this order: `split` cuts text into pieces, `bpe` learns and applies merges inside a piece, `texts` does both to
whole texts, `tokenizer` holds the result, `file` is its form on disk. `compiled_split` and `compiled_bpe` are the first
two again, for large texts.
"""

from .tokenizer import END_OF_TEXT, Tokenizer, train_bpe

__all__ = ["END_OF_TEXT", "Tokenizer", "train_bpe"]
