"""The byte-level BPE tokenizer as scriptable tensor operations: bytes to token ids and back.

The ids are those of `valyrian_jax.tokenizer`, which explains the rules. TorchScript has no regular
expressions and its loops are slow, so every operation here takes the whole text at once. Bytes are
int64 tensors with values from 0 to 255. Sizes: N bytes, P pieces of the pre-tokenizer, M tokens.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bridge.torch_settings import pin_torch_settings
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.tokenizer.pretokenizer import SPACE, load_class_table


class ByteBPE(nn.Module):
    """A byte-level BPE vocabulary as tensors."""

    class_starts: Tensor  # int64 [R]: first code point of each run of one class
    classes: Tensor  # uint8 [R]
    byte_ids: Tensor  # int64 [256]
    pairs: Tensor  # int64 [merges], increasing: left id x vocab_size + right id
    ranks: Tensor  # int64 [merges]: position of each pair in the list of merges
    merged_ids: Tensor  # int64 [merges]: token that each pair becomes
    token_bytes: Tensor  # uint8: bytes of all tokens, concatenated
    token_lengths: Tensor  # int64 [vocab_size]

    @pin_torch_settings()
    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.vocab_size = tokenizer.vocab_size
        self.space = SPACE
        class_changes = np.flatnonzero(np.diff(load_class_table(), prepend=255))
        self.register_buffer("class_starts", torch.from_numpy(class_changes))
        self.register_buffer("classes", torch.tensor(load_class_table()[class_changes]))

        self.register_buffer("byte_ids", torch.tensor(tokenizer.byte_ids))
        rows = sorted(
            (left * self.vocab_size + right, rank, merged)
            for (left, right), (rank, merged) in tokenizer.merge_table.items()
        )
        table = torch.tensor(rows or [(-1, 0, 0)])
        self.register_buffer("pairs", table[:, 0].contiguous())
        self.register_buffer("ranks", table[:, 1].contiguous())
        self.register_buffer("merged_ids", table[:, 2].contiguous())
        # Merges are ordered if none creates a token that an earlier merge uses. Then all
        # occurrences of a pair can be merged at once.
        last_rank = {merged: rank for rank, merged in tokenizer.merge_table.values()}
        self.is_ordered = all(
            last_rank.get(token, -1) < rank
            for rank, pair in enumerate(tokenizer.merges)
            for token in pair
        )

        self.register_buffer(
            "token_bytes", torch.tensor(list(b"".join(tokenizer.tokens)), dtype=torch.uint8)
        )
        self.register_buffer(
            "token_lengths", torch.tensor([len(token) for token in tokenizer.tokens])
        )

    def encode(self, data: Tensor) -> Tensor:
        """Return the token ids, int64 [M], of any bytes [N]; `decode` returns the same bytes."""
        return self.encode_pieces(data, self.find_piece_starts(data))

    def encode_lines(self, data: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Encode several texts at once; each gives the ids that `encode` gives for it alone.

        A line feed after each text, at increasing `ends`, separates their pieces in the bytes [N].
        Returns the ids [M] of the texts, each with one more for its line feed, and the positions of
        those ids.
        """
        is_start = self.find_piece_starts(data)
        is_start[ends] = True
        is_start[ends[:-1] + 1] = True
        ids = self.encode_pieces(data, is_start)
        return ids, torch.searchsorted(self.token_lengths[ids].cumsum(0), ends + 1)

    def encode_pieces(self, data: Tensor, is_start: Tensor) -> Tensor:
        """Return the token ids [M] of bytes [N] whose pieces begin where the mask is true."""
        if data.numel() < 4096:  # Grouping equal pieces would take longer than merging all.
            ids = self.merge(data, is_start.cumsum(0) - 1)
            return ids[ids >= 0]
        starts = torch.nonzero(is_start).flatten()
        lengths = torch.diff(starts, append=torch.full_like(starts[:1], data.numel()))
        group, example = group_equal_pieces(data, starts, lengths)
        starts, lengths = starts[example], lengths[example]  # merge one piece of each group
        piece = torch.arange(lengths.numel(), device=data.device).repeat_interleave(lengths)
        ids = self.merge_pieces(gather_slices(data, starts, lengths), piece, int(lengths.max()))
        is_token = ids >= 0
        counts = torch.bincount(piece[is_token], minlength=lengths.numel())
        return gather_slices(ids[is_token], (counts.cumsum(0) - counts)[group], counts[group])

    def merge_pieces(self, data: Tensor, piece: Tensor, longest: int) -> Tensor:
        """Return the result of `merge`, in blocks if the longest piece is long.

        `merge` takes a round for every different merge in a piece, so blocks save rounds.
        """
        if self.is_ordered and longest > 4096:
            for block in (128, 1024):
                ids = self.merge_blocks(data, piece, block)
                if ids.numel() > 0:
                    return ids
        return self.merge(data, piece)

    def merge_blocks(self, data: Tensor, piece: Tensor, block: int) -> Tensor:
        """Return the result of `merge`, computed in blocks that overlap by half a block.

        Two adjacent blocks agree where both have the same token at the same byte. The tokens before
        the first such byte come from the earlier block, the others from the later one. If two
        blocks agree nowhere, the result is empty.

        This is exact because the merges are ordered: tokens encode their text if every two adjacent
        tokens encode theirs, and here every two adjacent tokens come from one block.
        """
        N, overlap = data.numel(), block // 2
        positions = torch.arange(N, device=data.device)
        starts = positions[::block]
        lengths = (N - starts).clamp(max=block + overlap)
        source = gather_slices(positions, starts, lengths)
        owner = torch.arange(starts.numel(), device=data.device).repeat_interleave(lengths)
        is_boundary = (piece[source[1:]] != piece[source[:-1]]) | (owner[1:] != owner[:-1])
        ids = self.merge(data[source], F.pad(is_boundary, [1, 0]).cumsum(0))
        in_overlap = source - owner * block >= block
        later, earlier = ids[~in_overlap], torch.full_like(positions, -1)
        earlier[source[in_overlap]] = ids[in_overlap]
        agrees = (later >= 0) & (later == earlier)
        agreement = segment_min(positions, agrees, positions // block, starts.numel())
        agreement[0] = 0
        if bool((agreement >= N).any()):
            return positions[:0]
        return torch.where(positions < agreement[positions // block], earlier, later)

    def merge(self, data: Tensor, piece: Tensor) -> Tensor:
        """Merge the bytes [N] of every piece, in all pieces at once.

        `piece` is the index of the piece of every byte, int64 [N], not decreasing. Returns int64
        [N]: a token's id at its first byte, -1 at its other bytes.
        """
        ids = self.byte_ids[data]
        piece_count = int(piece[-1]) + 1 if piece.numel() > 0 else 0
        # Positions of the tokens in pieces that are not finished.
        positions = torch.arange(ids.numel(), device=ids.device)
        while positions.numel() > 1:
            token, owner = ids[positions], piece[positions]
            pair = token[:-1] * self.vocab_size + token[1:]
            row = torch.searchsorted(self.pairs, pair).clamp(max=self.pairs.numel() - 1)
            is_known = (self.pairs[row] == pair) & (owner[:-1] == owner[1:])
            if not bool(is_known.any()):
                break
            rank = self.ranks[row]
            next_rank = segment_min(rank, is_known, owner[:-1], piece_count)[owner]
            is_next = is_known & (rank == next_rank[:-1])
            if not self.is_ordered:  # Merge only the leftmost pair of every piece.
                leftmost = segment_min(positions[:-1], is_next, owner[:-1], piece_count)
                is_next = is_next & (positions[:-1] == leftmost[owner[:-1]])
            merged = drop_overlapping(torch.nonzero(is_next).flatten())
            ids[positions[merged]] = self.merged_ids[row[merged]]
            ids[positions[merged + 1]] = -1
            positions = positions[(ids[positions] >= 0) & (next_rank < self.ranks.numel())]
        return ids

    def decode(self, ids: Tensor) -> Tensor:
        """Return the bytes of token ids."""
        starts = self.token_lengths.cumsum(0) - self.token_lengths
        token_bytes = self.token_bytes.to(torch.int64)
        return gather_slices(token_bytes, starts[ids], self.token_lengths[ids])

    def find_piece_starts(self, data: Tensor) -> Tensor:
        """Return a mask that is true at the bytes [N] where a piece begins."""
        # Blocks stay in the processor's cache. No start depends on a byte outside the margin.
        block, margin = 1 << 15, 32
        if data.numel() <= block:
            return self.find_block_piece_starts(data)
        masks: list[Tensor] = []
        for begin in range(0, data.numel(), block):
            before = min(begin, margin)
            mask = self.find_block_piece_starts(data[begin - before : begin + block + margin])
            masks.append(mask[before : before + block])
        return torch.cat(masks)

    def find_block_piece_starts(self, data: Tensor) -> Tensor:
        """Apply the rules of `valyrian_jax.tokenizer.pretokenizer` to one block of bytes."""
        offsets, points = decode_utf8(data)
        rows = torch.searchsorted(self.class_starts, points.clamp(min=0), right=True) - 1
        classes = self.classes[rows]
        starts = classes != shift(classes, 1)  # rule 1
        starts[:1] = True
        run_ends = shift(starts, -1) & (classes == self.space)
        starts = (starts | run_ends) & ~shift(run_ends & (points == 0x20), 1)  # rule 2
        quotes = starts & (points == ord("'"))
        a, b = shift(points, -1), shift(points, -2)
        short = quotes & ((a == ord("s")) | (a == ord("t")) | (a == ord("m")) | (a == ord("d")))
        ends_in_e = ((a == ord("r")) | (a == ord("v"))) & (b == ord("e"))
        long = quotes & (ends_in_e | (a == ord("l")) & (b == ord("l")))
        starts = starts & ~shift(short | long, 1) | shift(short, 2) | shift(long, 3)  # rule 3
        mask = torch.zeros_like(data, dtype=torch.bool)
        mask[offsets[starts]] = True
        return mask


def group_equal_pieces(data: Tensor, starts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return the group of equal pieces that each piece [P] is in, and one piece of each group.

    Pieces with the same hash, a polynomial modulo 2^64, form a group. If a comparison shows that
    two different pieces have the same hash, every piece becomes a group of one.
    """
    power = torch.full_like(data, 6364136223846793005).cumprod(0)
    total = F.pad(((data + 1) * power).cumsum(0), [1, 0])
    # The last factor makes the hash independent of where a piece begins.
    hashes = (total[starts + lengths] - total[starts]) * power.flip(0)[starts]
    distinct, group = torch.unique(hashes, return_inverse=True)
    pieces = torch.arange(starts.numel(), device=data.device)
    example = torch.zeros_like(distinct).scatter_(0, group, pieces)
    twin = example[group]
    is_exact = torch.equal(lengths[twin], lengths)
    if is_exact and torch.equal(gather_slices(data, starts[twin], lengths), data):
        return group, example
    return pieces, pieces


def decode_utf8(data: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the characters in bytes [N] begin, and their code points.

    Every malformed part has the code point -1. Parts are the maximal subparts that the Unicode
    Standard recommends to replace (chapter 3, "U+FFFD Substitution of Maximal Subparts"), as in
    Python's `errors="replace"`.
    """
    b0, b1, b2, b3 = data, shift(data, -1), shift(data, -2), shift(data, -3)
    is_lead = (b0 >= 0xC2) & (b0 <= 0xF4)
    expected = 1 + is_lead + (is_lead & (b0 >= 0xE0)) + (is_lead & (b0 >= 0xF0))  # length in bytes
    low = torch.where(b0 == 0xE0, 0xA0, torch.where(b0 == 0xF0, 0x90, 0x80))
    high = torch.where(b0 == 0xED, 0x9F, torch.where(b0 == 0xF4, 0x8F, 0xBF))
    has1 = is_lead & (b1 >= low) & (b1 <= high)
    has2 = has1 & (expected > 2) & (b2 >> 6 == 2)
    has3 = has2 & (expected > 3) & (b3 >> 6 == 2)
    length = 1 + has1 + has2 + has3
    is_inside = shift(length, 1) > 1
    is_inside = is_inside | (shift(length, 2) > 2) | (shift(length, 3) > 3)

    points = b0 & torch.tensor([0, 0x7F, 0x1F, 0x0F, 0x07], device=data.device)[expected]
    points = torch.where(expected > 1, points << 6 | b1 & 0x3F, points)
    points = torch.where(expected > 2, points << 6 | b2 & 0x3F, points)
    points = torch.where(expected > 3, points << 6 | b3 & 0x3F, points)
    is_valid = (length == expected) & (is_lead | (b0 < 0x80))
    offsets = torch.nonzero(~is_inside).flatten()
    return offsets, torch.where(is_valid, points, -1)[offsets]


def replace_malformed(data: Tensor) -> Tensor:
    """Return the bytes with U+FFFD in place of every malformed part."""
    offsets, points = decode_utf8(data)
    malformed = points < 0
    ends = torch.cat([offsets[1:], torch.full_like(offsets[:1], data.numel())])
    source = torch.cat([data, torch.tensor([0xEF, 0xBF, 0xBD], device=data.device)])
    starts = offsets.masked_fill(malformed, data.numel())
    return gather_slices(source, starts, (ends - offsets).masked_fill(malformed, 3))


def gather_slices(source: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
    """Concatenate the slices source[start : start + length]."""
    before = lengths.cumsum(0) - lengths
    indices = torch.arange(int(lengths.sum()), device=source.device)
    return source[(starts - before).repeat_interleave(lengths) + indices]


def shift(x: Tensor, by: int) -> Tensor:
    """Move the elements of [N] to higher (by > 0) or lower indices, and fill with 0."""
    out = torch.zeros_like(x)
    if by > 0:
        out[by:] = x[:-by]
    else:
        out[:by] = x[-by:]
    return out


def segment_min(values: Tensor, mask: Tensor, segments: Tensor, count: int) -> Tensor:
    """Return the minimum of the masked values [N] in each of `count` segments; 2^62 if none."""
    empty = 1 << 62
    table = torch.full([count], empty, dtype=torch.int64, device=values.device)
    return table.scatter_reduce(0, segments, values.masked_fill(~mask, empty), "amin")


def drop_overlapping(indices: Tensor) -> Tensor:
    """Drop the pairs whose left token a merge from the left has already used.

    `indices` are the indices of the left tokens, in increasing order.
    """
    follows = indices[1:] - indices[:-1] == 1
    if not bool(follows.any()):
        return indices
    order = torch.arange(indices.numel(), device=indices.device)
    begin = order.masked_fill(F.pad(follows, [1, 0]), 0).cummax(0)[0]
    return indices[(order - begin) % 2 == 0]
