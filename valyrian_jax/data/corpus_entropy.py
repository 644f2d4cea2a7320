"""The entropy of a generated text: a lower bound for the loss of every model.

`python -m valyrian_jax corpus -o TEXT` writes it beside the text, with the suffix .source.json.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from valyrian_jax.errors import UserError
from valyrian_jax.files import read_text, write_atomically
from valyrian_jax.language import Paragraph, generate_paragraphs, load_grammar, text_bits


class EntropyEstimate(NamedTuple):
    """Bits per byte, with the standard error over documents."""

    bits_per_byte: float
    standard_error: float


class CorpusSource(NamedTuple):
    """The information content of a generated text.

    Attributes:
        sha256: SHA-256 of the text.
        bits: For each document, -log2 of the probability of its derivation.
        excess: Bits per byte by which derivations exceed the texts themselves, from a sample.
    """

    sha256: str
    bits: Sequence[float]
    excess: float


class GeneratedCorpus(NamedTuple):
    """A text that the grammar generated, its source, and a summary of both in one line."""

    text: str
    source: CorpusSource
    summary: str


def generate_corpus(sentences: int, seed: int, exact: int) -> GeneratedCorpus:
    """Generate a text and measure its entropy.

    Args:
        sentences: Number of sentences.
        seed: Seed; the same one gives the same text.
        exact: Number of other texts (from the next seed) whose exact probability is computed too.

    Raises:
        UserError: The grammar cannot generate this number of different sentences.
    """
    paragraphs = list(generate_paragraphs(sentences, seed))
    text = "\n\n".join(paragraph.text for paragraph in paragraphs) + "\n"
    bits = [paragraph.bits for paragraph in paragraphs]
    derivations = estimate_entropy(bits, [_count_bytes(p) for p in paragraphs])
    summary = (
        f"{sentences:,} sentences in {len(paragraphs):,} texts, {len(text.encode()):,} bytes; "
        f"entropy {derivations.bits_per_byte:.4f} ± {derivations.standard_error:.4f} bits per byte "
        "of the derivations"
    )
    excess = EntropyEstimate(0.0, 0.0)
    if exact:
        sample = list(generate_paragraphs(10 * exact, seed + 1))[:exact]
        grammar = load_grammar()
        excess_bits = [p.bits - text_bits(p.sentences, grammar) for p in sample]
        excess = estimate_entropy(excess_bits, [_count_bytes(p) for p in sample])
        summary += (
            f", {excess.bits_per_byte:.4f} ± {excess.standard_error:.4f} less of the texts "
            f"themselves (from {exact} texts)"
        )
    attempts = sum(p.attempts for p in paragraphs) / sentences
    summary += f"; {attempts - 1:.1%} of the sentences were redrawn (not new, or a dead end)"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return GeneratedCorpus(text, CorpusSource(digest, bits, excess.bits_per_byte), summary)


def _count_bytes(paragraph: Paragraph) -> int:
    return len(paragraph.text.encode()) + 2  # with the blank line after it


def source_path(text: str | Path) -> Path:
    """Return the path of the source of a text."""
    return Path(text).with_suffix(".source.json")


def save_source(source: CorpusSource, path: Path) -> None:
    """Write the source of a text; the bits are rounded to far less than their standard error."""
    bits = ",".join(f"{value:.1f}" for value in source.bits)
    head = json.dumps({"sha256": source.sha256, "excess": round(source.excess, 5)})[1:-1]
    write_atomically(path, f'{{{head}, "bits": [{bits}]}}\n')


def load_source(text: str | Path, sha256: str) -> CorpusSource | None:
    """Return the source of a text; None if it has none, or one for another version of the text.

    Raises:
        UserError: The file is damaged.
    """
    path = source_path(text)
    if not path.exists():
        return None
    try:
        record = json.loads(read_text(path))
        bits = [float(value) for value in record["bits"]]
        source = CorpusSource(record["sha256"], bits, float(record["excess"]))
        if not all(map(math.isfinite, [*source.bits, source.excess])):
            raise ValueError("a number is not finite")
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged ({error!r}); write it again with `corpus`, or delete it"
        ) from error
    return source if source.sha256 == sha256 else None


def estimate_entropy(bits: Sequence[float], sizes: Sequence[int]) -> EntropyEstimate:
    """Estimate the bits per byte of documents as a ratio (Cochran 1977, section 6.3).

    Args:
        bits: Bits of each document; with a single one, the standard error is infinite.
        sizes: Bytes of each document, with the blank line after it.
    """
    ratio = sum(bits) / sum(sizes)
    squares = sum((b - ratio * n) ** 2 for b, n in zip(bits, sizes, strict=True))
    count = len(bits)
    error = math.sqrt(squares / (count - 1) * count) / sum(sizes) if count > 1 else math.inf
    return EntropyEstimate(ratio, error)


def entropy_floor(source: CorpusSource, documents: Sequence[str]) -> EntropyEstimate:
    """Return the entropy of the last documents of a text; no model can expect fewer bits per byte.

    Args:
        source: Source of the whole text.
        documents: Last documents of the text.

    Raises:
        UserError: The source describes fewer documents than there are.
    """
    if len(source.bits) < len(documents):
        raise UserError(
            f"the .source.json of the text is damaged: expected at least {len(documents)} "
            f"documents, found {len(source.bits)}; write it again with `corpus`, or delete it"
        )
    sizes = [len(document.encode()) + 2 for document in documents]
    estimate = estimate_entropy(source.bits[-len(documents) :], sizes)
    return EntropyEstimate(estimate.bits_per_byte - source.excess, estimate.standard_error)
