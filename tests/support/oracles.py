"""Tokenizers that others wrote, given our vocabulary."""

import json

import tiktoken
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from valyrian_jax.tokenizer import Tokenizer

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

HOSTILE = [
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


def trained_by_tokenizers(texts: list[str], vocab_size: int) -> list[list[str]]:
    """The merges that the `tokenizers` package learns, without room for a special token."""
    theirs = tokenizers.Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    theirs.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size - 1, initial_alphabet=alphabet, show_progress=False
        ),
    )
    return json.loads(theirs.to_str())["model"]["merges"]


def as_tiktoken(ours: Tokenizer) -> tiktoken.Encoding:
    plain = {token: i for i, token in enumerate(ours.tokens) if i not in ours.special.values()}
    return tiktoken.Encoding(
        "ours", pat_str=GPT2_PATTERN, mergeable_ranks=plain, special_tokens=dict(ours.special)
    )
