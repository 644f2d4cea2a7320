"""Byte-level byte-pair encoding: any bytes become token ids, and come back exactly.

Read in this order: `split` cuts text into pieces, `bpe` learns and applies merges inside a piece, `tokenizer` holds
the result and its file.
"""

from .tokenizer import END_OF_TEXT, Tokenizer, train_bpe

__all__ = ["END_OF_TEXT", "Tokenizer", "train_bpe"]
