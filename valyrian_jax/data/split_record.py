"""What a run records about its split, so that it is never resumed or evaluated with another one.

Which part of a text is held out depends on the version of this package. With another part, a run
would train on text that its loss is measured on.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from valyrian_jax.data.windows import EvalSet
from valyrian_jax.errors import UserError

# The number of bytes is rounded if a run evaluates only a part of the evaluation set.
_RELATIVE_TOLERANCE = 2e-4


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SplitRecord:
    """The two parts of a text."""

    training_tokens: Annotated[int, Field(ge=1, strict=True)]
    held_out_tokens: Annotated[int, Field(ge=1, strict=True)]  # predicted ones
    text_bytes: Annotated[int, Field(ge=0, strict=True)]  # as bits per byte count
    sha256: str  # SHA-256 of these tokens, as little-endian int32


def record_split(training_tokens: int, eval_set: EvalSet) -> SplitRecord:
    """Return the record of a split; it does not depend on how the windows are batched."""
    tokens, counted = eval_set.windows
    targets = tokens[..., 1:][counted]
    digest = hashlib.sha256(targets.astype("<i4").data).hexdigest()
    return SplitRecord(training_tokens, len(targets), eval_set.text_bytes, digest)


def read_split(
    manifest: Mapping[str, Any], run: object
) -> tuple[SplitRecord | None, tuple[float, float]]:
    """Return the record and the held-out losses in the manifest of a run's bundle."""
    try:
        record = TypeAdapter(SplitRecord | None).validate_python(manifest.get("split"))
        losses = manifest.get("held_out") or {}
        names = "nats_per_token", "bits_per_byte"
        nats, bits = (float(losses.get(name, math.nan)) for name in names)
    except (ValidationError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"the manifest of the bundle in {run} is damaged: expected the record of a split and "
            "held-out losses, found something else; copy the bundle again"
        ) from error
    return record, (nats, bits)


def check_split(
    current: SplitRecord,
    saved: SplitRecord | None,
    losses: tuple[float, float],
    text: str,
    run: object,
) -> None:
    """Check that a text is split as it was when a run started.

    Without a `saved` record, a version before 0.2 trained the run. Then the number of bytes per
    held-out token is compared, which follows from its nats per token and bits per byte.
    """
    if saved is not None:
        is_same = current == saved
        expected, found = map(_describe, (saved, current))
    else:
        nats_per_token, bits_per_byte = losses
        before = nats_per_token / bits_per_byte / math.log(2) if bits_per_byte else math.nan
        now = current.text_bytes / current.held_out_tokens
        # Before the first evaluation the losses are infinite, and `before` is not a number.
        is_same = not math.isfinite(before) or math.isclose(
            before, now, rel_tol=_RELATIVE_TOLERANCE
        )
        expected, found = (f"{size:.4f} bytes for each held-out token" for size in (before, now))
    if not is_same:
        raise UserError(
            f"the split of {text} is not that of {run}, because another version trained it: "
            f"expected {expected}, found {found}; train again, or continue with that version"
        )


def _describe(record: SplitRecord) -> str:
    return (
        f"{record.training_tokens:,} training and {record.held_out_tokens:,} held-out tokens (of "
        f"SHA-256 {record.sha256[:12]})"
    )
