"""Find documents whose whole text has occurred before, by its hash, to leave them out."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from valyrian_jax.data.reading.documents import (
    GOOD,
    DecodedDocument,
    RawDocument,
    decode_document,
)
from valyrian_jax.tokenizer.batch import encode_utf8

HASH_BYTES = 16  # Among 10^12 different texts, two have one hash with probability 10^-15.


def hash_document(document: RawDocument, decoded: DecodedDocument) -> bytes:
    """Return the hash of a text; b"" if it is skipped or a piece of a long document."""
    if decoded.reason != GOOD or not document.is_whole:
        return b""
    return hashlib.blake2b(encode_utf8(decoded.text), digest_size=HASH_BYTES).digest()


def hash_documents(documents: Iterable[RawDocument]) -> set[bytes]:
    """Return the hashes of the texts of documents."""
    hashes = {hash_document(document, decode_document(document)) for document in documents}
    return hashes - {b""}


def find_duplicates(hashes: Sequence[bytes], seen: set[bytes]) -> npt.NDArray[np.bool_]:
    """Return which of D documents are duplicates, bool[D], and add the other hashes to `seen`.

    A duplicate has a hash that is in `seen` or that an earlier one of these documents has.
    """
    duplicates = np.zeros(len(hashes), bool)
    for i, value in enumerate(hashes):
        if value in seen:
            duplicates[i] = True
        elif value:
            seen.add(value)
    return duplicates
