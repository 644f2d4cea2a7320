"""What is known of the source of a text: how much information its documents hold, the floor for every model's loss.

`python -m valyrian_jax corpus -o TEXT` writes it beside the text it generates, as TEXT with the suffix .source.json.
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
    """The information of a generated text.

    Attributes:
        sha256: of the text.
        bits: of each document: -log2 of the probability of its derivation.
        excess: how much more than the text itself its derivations say, in bits per byte; from a sample.
    """

    sha256: str
    bits: Sequence[float]
    excess: float


class GeneratedCorpus(NamedTuple):
    """A text drawn from the grammar, and what is known of it."""

    text: str
    source: CorpusSource
    summary: str


def generate_corpus(sentences: int, seed: int, exact: int) -> GeneratedCorpus:
    """Draw a text and measure its information.

    Args:
        sentences: how many.
        seed: the same seed gives the same text.
        exact: of how many other texts (drawn with the next seed) to find the exact probability too, which takes
            seconds for each.

    Raises:
        UserError: the grammar cannot say so much.
    """
    found = list(generate_paragraphs(sentences, seed))
    text = "\n\n".join(paragraph.text for paragraph in found) + "\n"
    size = len(text.encode())
    along = estimate_entropy([p.bits for p in found], [_size(p) for p in found])
    attempts = sum(p.attempts for p in found) / sentences
    summary = (
        f"{sentences:,} sentences in {len(found):,} texts, {size:,} bytes; entropy "
        f"{along.bits_per_byte:.4f} ± {along.standard_error:.4f} bits per byte along the derivations"
    )
    excess = EntropyEstimate(0.0, 0.0)
    if exact:
        sample = list(generate_paragraphs(10 * exact, seed + 1))[:exact]
        grammar = load_grammar()
        less = [p.bits - text_bits(p.sentences, grammar) for p in sample]
        excess = estimate_entropy(less, [_size(p) for p in sample])
        summary += f"; the text itself {excess.bits_per_byte:.4f} ± {excess.standard_error:.4f} less ({exact} texts)"
    summary += f"; {attempts - 1:.1%} of the sentences were drawn again (not new, or a dead end)"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return GeneratedCorpus(
        text, CorpusSource(digest, [p.bits for p in found], excess.bits_per_byte), summary
    )


def _size(paragraph: Paragraph) -> int:
    return len(paragraph.text.encode()) + 2  # with the blank line after it


def source_path(text: str | Path) -> Path:
    """Where the source of a text is described."""
    return Path(text).with_suffix(".source.json")


def save_source(source: CorpusSource, path: Path) -> None:
    """Write the description of a source."""
    bits = ",\n".join(f"{value:.3f}" for value in source.bits)
    head = json.dumps({"sha256": source.sha256, "excess": round(source.excess, 5)})[1:-1]
    write_atomically(path, f'{{{head}, "bits": [\n{bits}\n]}}\n')


def load_source(text: str | Path, sha256: str) -> CorpusSource | None:
    """The description of the source of a text; None: there is none for this text as it is.

    Raises:
        UserError: the file is damaged.
    """
    path = source_path(text)
    if not path.exists():
        return None
    try:
        record = json.loads(read_text(path))
        found = CorpusSource(
            record["sha256"], [float(value) for value in record["bits"]], float(record["excess"])
        )
        if not all(map(math.isfinite, [*found.bits, found.excess])):
            raise ValueError("a number is not finite")
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged ({error!r}); write it again with `corpus`, or delete it"
        ) from error
    return found if found.sha256 == sha256 else None


def estimate_entropy(bits: Sequence[float], sizes: Sequence[int]) -> EntropyEstimate:
    """Bits per byte of documents, and its standard error as that of a ratio (Cochran 1977, section 6.3).

    Args:
        bits: of each document; from one alone the error is infinite.
        sizes: bytes of each document, with the blank line after it.
    """
    ratio = sum(bits) / sum(sizes)
    squares = sum((b - ratio * n) ** 2 for b, n in zip(bits, sizes, strict=True))
    count = len(bits)
    return EntropyEstimate(
        ratio, math.sqrt(squares / (count - 1) * count) / sum(sizes) if count > 1 else math.inf
    )


def entropy_floor(source: CorpusSource, documents: Sequence[str]) -> EntropyEstimate:
    """The entropy of the last documents of a text: no model can expect to need fewer bits per byte.

    Args:
        source: of the whole text.
        documents: its last ones.

    Raises:
        UserError: the source tells of fewer.
    """
    if len(source.bits) < len(documents):
        raise UserError(
            f"the source.json of the text tells of {len(source.bits)} documents, of which it has more"
        )
    sizes = [len(document.encode()) + 2 for document in documents]
    found = estimate_entropy(source.bits[-len(documents) :], sizes)
    return EntropyEstimate(found.bits_per_byte - source.excess, found.standard_error)
