"""The tokenizer as tensor operations, which can be scripted: bytes to token ids and back.

The ids are those of `valyrian_jax.tokenizer`, where the rules stand. TorchScript has no regular expressions, and its
loops are slow, so every step here treats the whole text at once. Bytes are int64 tensors with values from 0 to 255.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.tokenizer.pretokenizer import SPACE, class_table


class ByteBPE(nn.Module):
    """A byte-level BPE vocabulary in tensors."""

    class_starts: Tensor  # int64 [R]: where a run of code points of one class begins
    classes: Tensor  # uint8 [R]
    byte_ids: Tensor  # int64 [256]
    pairs: Tensor  # int64 [M], increasing: left id x V + right id
    ranks: Tensor  # int64 [M]: when each was learnt
    made: Tensor  # int64 [M]: the token that each becomes
    token_bytes: Tensor  # uint8: all tokens, one behind the other
    token_lengths: Tensor  # int64 [V]

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.vocab_size = tokenizer.vocab_size
        self.space = SPACE
        changes = np.flatnonzero(np.diff(class_table(), prepend=255))
        self.register_buffer("class_starts", torch.from_numpy(changes))
        self.register_buffer("classes", torch.tensor(class_table()[changes]))

        self.register_buffer("byte_ids", torch.tensor(tokenizer.byte_ids))
        rows = sorted(
            (a * self.vocab_size + b, rank, made)
            for (a, b), (rank, made) in tokenizer.merge_table.items()
        )
        table = torch.tensor(rows or [(-1, 0, 0)])
        self.register_buffer("pairs", table[:, 0].contiguous())
        self.register_buffer("ranks", table[:, 1].contiguous())
        self.register_buffer("made", table[:, 2].contiguous())
        # Whether no merge can make a pair that was due before it; then all places of a pair may be merged at once.
        made_last = {made: rank for rank, made in tokenizer.merge_table.values()}
        self.ordered = all(
            made_last.get(part, -1) < r for r, pair in enumerate(tokenizer.merges) for part in pair
        )

        self.register_buffer(
            "token_bytes", torch.tensor(list(b"".join(tokenizer.tokens)), dtype=torch.uint8)
        )
        self.register_buffer(
            "token_lengths", torch.tensor([len(token) for token in tokenizer.tokens])
        )

    def encode(self, data: Tensor) -> Tensor:
        """Token ids int64 [M] of bytes [N], which `decode` gives back exactly, well-formed or not."""
        begins = self.piece_starts(data)
        if data.numel() < 4096:  # looking for pieces that repeat would take longer
            ids = self.merge(data, begins.cumsum(0) - 1)
            return ids[ids >= 0]
        starts = torch.nonzero(begins).flatten()
        lengths = torch.diff(starts, append=torch.full_like(starts[:1], data.numel()))
        kind, example = kinds(data, starts, lengths)  # pieces of one kind are merged once
        starts, lengths = starts[example], lengths[example]
        piece = torch.arange(lengths.numel(), device=data.device).repeat_interleave(lengths)
        ids = self.merge_kinds(runs(data, starts, lengths), piece, int(lengths.max()))
        left = ids >= 0
        counts = torch.bincount(piece[left], minlength=lengths.numel())
        return runs(ids[left], (counts.cumsum(0) - counts)[kind], counts[kind])

    def merge_kinds(self, data: Tensor, piece: Tensor, longest: int) -> Tensor:
        """As `merge`, but long pieces in blocks first: a piece takes as many rounds as it meets different merges."""
        if self.ordered and longest > 4096:
            for block in (128, 1024):
                ids = self.merge_blocks(data, piece, block)
                if ids.numel() > 0:
                    return ids
        return self.merge(data, piece)

    def merge_blocks(self, data: Tensor, piece: Tensor, block: int) -> Tensor:
        """As `merge`, but in blocks that overlap by half of one; empty if two neighbours do not meet.

        They meet at a token that both have at the same place. What is read from the first until there and from the
        second from there on is the whole, for the merges come in order: tokens are those of the text that they spell if
        every two neighbours among them are those of what the two spell, and here every two stand together in a block.
        """
        N, margin = data.numel(), block // 2
        everything = torch.arange(N, device=data.device)
        starts = everything[::block]
        lengths = (N - starts).clamp(max=block + margin)
        places = runs(everything, starts, lengths)
        of = torch.arange(starts.numel(), device=data.device).repeat_interleave(lengths)
        ends = (piece[places[1:]] != piece[places[:-1]]) | (of[1:] != of[:-1])
        ids = self.merge(data[places], F.pad(ends, [1, 0]).cumsum(0))
        beyond = places - of * block >= block
        own, other = ids[~beyond], torch.full_like(everything, -1)  # of the block before
        other[places[beyond]] = ids[beyond]
        meet = lowest(everything, (own >= 0) & (own == other), everything // block, starts.numel())
        meet[0] = 0
        if bool((meet >= N).any()):
            return everything[:0]
        return torch.where(everything < meet[everything // block], other, own)

    def merge(self, data: Tensor, piece: Tensor) -> Tensor:
        """Token ids of bytes [N] in the pieces [N]: each where its first byte is, -1 at the other bytes."""
        ids = self.byte_ids[data]
        count = int(piece[-1]) + 1 if piece.numel() > 0 else 0
        place = torch.arange(
            ids.numel(), device=ids.device
        )  # of the tokens in pieces that are not finished
        while place.numel() > 1:
            token, owner = ids[place], piece[place]
            pair = token[:-1] * self.vocab_size + token[1:]
            at = torch.searchsorted(self.pairs, pair).clamp(max=self.pairs.numel() - 1)
            known = (self.pairs[at] == pair) & (owner[:-1] == owner[1:])
            if not bool(known.any()):
                break
            rank = self.ranks[at]
            next_rank = lowest(rank, known, owner[:-1], count)[
                owner
            ]  # in every piece, the pair learnt first
            due = known & (rank == next_rank[:-1])
            if not self.ordered:  # one place at a time
                due = due & (place[:-1] == lowest(place[:-1], due, owner[:-1], count)[owner[:-1]])
            merged = apart(torch.nonzero(due).flatten())
            ids[place[merged]] = self.made[at[merged]]
            ids[place[merged + 1]] = -1
            place = place[(ids[place] >= 0) & (next_rank < self.ranks.numel())]
        return ids

    def decode(self, ids: Tensor) -> Tensor:
        """Bytes of token ids."""
        ends = self.token_lengths.cumsum(0)
        return runs(
            self.token_bytes.to(torch.int64),
            (ends - self.token_lengths)[ids],
            self.token_lengths[ids],
        )

    def piece_starts(self, data: Tensor) -> Tensor:
        """True at the bytes [N] where a piece begins."""
        block, margin = (
            1 << 15,
            32,
        )  # blocks stay in the processor's cache; no cut depends on bytes further off
        if data.numel() <= block:
            return self.cuts(data)
        found: list[Tensor] = []
        for begin in range(0, data.numel(), block):
            before = min(begin, margin)
            found.append(
                self.cuts(data[begin - before : begin + block + margin])[before : before + block]
            )
        return torch.cat(found)

    def cuts(self, data: Tensor) -> Tensor:
        """As `piece_starts`, but all bytes at once."""
        where, points = characters(data)
        classes = self.classes[
            torch.searchsorted(self.class_starts, points.clamp(min=0), right=True) - 1
        ]
        starts = classes != shifted(classes, 1)  # rule 1
        starts[:1] = True
        run_ends = shifted(starts, -1) & (classes == self.space)
        starts = (starts | run_ends) & ~shifted(run_ends & (points == 0x20), 1)  # rule 2
        quotes = starts & (points == ord("'"))
        a, b = shifted(points, -1), shifted(points, -2)
        short = quotes & ((a == ord("s")) | (a == ord("t")) | (a == ord("m")) | (a == ord("d")))
        long = ((a == ord("r")) | (a == ord("v"))) & (b == ord("e")) | (a == ord("l")) & (
            b == ord("l")
        )
        long = quotes & long
        starts = starts & ~shifted(short | long, 1) | shifted(short, 2) | shifted(long, 3)  # rule 3
        out = torch.zeros_like(data, dtype=torch.bool)
        out[where[starts]] = True
        return out


def kinds(data: Tensor, starts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Which pieces are the same bytes: the kind of every piece [P], and a piece of every kind [K].

    Found by a hash, a polynomial modulo 2^64, and checked: if it is the same for two different pieces, all of them
    count as different.
    """
    power = torch.full_like(data, 6364136223846793005).cumprod(0)
    total = F.pad(((data + 1) * power).cumsum(0), [1, 0])
    hashes = (total[starts + lengths] - total[starts]) * power.flip(0)[
        starts
    ]  # the same wherever a piece begins
    found, kind = torch.unique(hashes, return_inverse=True)
    every = torch.arange(starts.numel(), device=data.device)
    example = torch.zeros_like(found).scatter_(0, kind, every)
    alike = example[kind]
    if torch.equal(lengths[alike], lengths) and torch.equal(
        runs(data, starts[alike], lengths), data
    ):
        return kind, example
    return every, every


def characters(data: Tensor) -> tuple[Tensor, Tensor]:
    """Where characters begin in bytes [N], and their code points.

    Malformed UTF-8 is cut as the Unicode Standard recommends (chapter 3, "U+FFFD Substitution of Maximal Subparts") and
    as Python's `errors="replace"` does; each such part has the code point -1.
    """
    b0, b1, b2, b3 = data, shifted(data, -1), shifted(data, -2), shifted(data, -3)
    lead = (b0 >= 0xC2) & (b0 <= 0xF4)
    asked = 1 + lead + (lead & (b0 >= 0xE0)) + (lead & (b0 >= 0xF0))
    low = torch.where(b0 == 0xE0, 0xA0, torch.where(b0 == 0xF0, 0x90, 0x80))
    high = torch.where(b0 == 0xED, 0x9F, torch.where(b0 == 0xF4, 0x8F, 0xBF))
    ok1 = lead & (b1 >= low) & (b1 <= high)
    ok2 = ok1 & (asked > 2) & (b2 >> 6 == 2)
    ok3 = ok2 & (asked > 3) & (b3 >> 6 == 2)
    length = 1 + ok1 + ok2 + ok3
    inside = shifted(length, 1) > 1
    inside = inside | (shifted(length, 2) > 2) | (shifted(length, 3) > 3)

    bits = b0 & torch.tensor([0, 0x7F, 0x1F, 0x0F, 0x07], device=data.device)[asked]
    bits = torch.where(asked > 1, bits << 6 | b1 & 0x3F, bits)
    bits = torch.where(asked > 2, bits << 6 | b2 & 0x3F, bits)
    bits = torch.where(asked > 3, bits << 6 | b3 & 0x3F, bits)
    whole = (length == asked) & (lead | (b0 < 0x80))
    where = torch.nonzero(~inside).flatten()
    return where, torch.where(whole, bits, -1)[where]


def well_formed(data: Tensor) -> Tensor:
    """The bytes with U+FFFD in place of every malformed part."""
    where, points = characters(data)
    malformed = points < 0
    ends = torch.cat([where[1:], torch.full_like(where[:1], data.numel())])
    source = torch.cat([data, torch.tensor([0xEF, 0xBF, 0xBD], device=data.device)])
    return runs(
        source, where.masked_fill(malformed, data.numel()), (ends - where).masked_fill(malformed, 3)
    )


def runs(source: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
    """The pieces source[start : start + length], one behind the other."""
    before = lengths.cumsum(0) - lengths
    return source[
        (starts - before).repeat_interleave(lengths)
        + torch.arange(int(lengths.sum()), device=source.device)
    ]


def shifted(x: Tensor, by: int) -> Tensor:
    """The elements of [N] moved to higher (by > 0) or lower indices; 0 where nothing came."""
    out = torch.zeros_like(x)
    if by > 0:
        out[by:] = x[:-by]
    else:
        out[:by] = x[-by:]
    return out


def lowest(value: Tensor, among: Tensor, piece: Tensor, count: int) -> Tensor:
    """The lowest value of those `among` the places [N] in each of `count` pieces; 2^62 where there is none."""
    none = 1 << 62
    table = torch.full([count], none, dtype=torch.int64, device=value.device)
    return table.scatter_reduce(0, piece, value.masked_fill(~among, none), "amin")


def apart(places: Tensor) -> Tensor:
    """Of increasing places [N], those that a walk from the left merges: of neighbours every other one."""
    follows = places[1:] - places[:-1] == 1
    if not bool(follows.any()):
        return places
    index = torch.arange(places.numel(), device=places.device)
    begin = index.masked_fill(F.pad(follows, [1, 0]), 0).cummax(0)[0]
    return places[(index - begin) % 2 == 0]
