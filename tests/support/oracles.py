"""Tokenizers of other libraries with our vocabulary, as references."""

import json

import tiktoken
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from valyrian_jax.tokenizer import Tokenizer

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

HOSTILE_STRINGS = [
    "",
    " ",
    "\n",
    "  \n\n  x",
    "a  b   c    ",
    "\t\tindent\n\n\n  more \r\n\r\n end \x0b\x0c\x1c\x1d\x1e\x1f\x85",
    "don't they'll I'm we've he'd it's you're 'S 'RE ''s'll's 's's'tx'rest 'llama x'veto",
    " 's 'll\n're\t've",
    "'",
    "x'",
    "'r",
    "''''re",
    "12 345abc67 ½ ² Ⅷ ٣ 一二三",
    "ñuha rūs ȳdra ābrar valar morghūlis",
    "n\u0304u\u0304ha e\u0301\u0302\u0323",
    "👩‍👩‍👧‍👦 🇻🇦 👍🏽",
    "\u00a0\u2003\u3000x \u200b\u200d\ufeff",
    "<|endoftext|> <|endoftext|>x",
    "\x00\x01\x7f",
    "العربية עברית 日本語 ไทย हिन्दी",
    "!!!??? ... --- ***a!!!1",
    "a" * 300 + " " * 300 + "!" * 300,
    "\U0010ffff\U000e0001 \ue000",
]


def train_reference_tokenizer(texts: list[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Train a tokenizer with the `tokenizers` package.

    Args:
        texts: Texts to learn from.
        vocab_size: Size of our vocabulary, including its special token, which the reference lacks.
    """
    reference = tokenizers.Tokenizer(models.BPE())
    reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    reference.train_from_iterator(texts, trainer)
    return reference


def learn_reference_merges(texts: list[str], vocab_size: int) -> list[list[str]]:
    """Return the merges that the `tokenizers` package learns."""
    return json.loads(train_reference_tokenizer(texts, vocab_size).to_str())["model"]["merges"]


def make_tiktoken(tokenizer: Tokenizer) -> tiktoken.Encoding:
    """Return a tiktoken encoding with the vocabulary of a tokenizer."""
    special = tokenizer.special
    ranks = {token: i for i, token in enumerate(tokenizer.tokens) if i not in special.values()}
    return tiktoken.Encoding(
        "ours", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=dict(special)
    )
