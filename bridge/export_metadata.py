"""The metadata in a TorchScript file: its configuration, tokenizer, manifest and certificate.

This module reads it without PyTorch, so that a file that is damaged or not ours is rejected before
PyTorch loads the program in it.
"""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic requires it before Python 3.12.

from bridge.importers.zip_safety import read_zip_directory
from valyrian_jax.config import Seed, explain_error
from valyrian_jax.errors import UserError
from valyrian_jax.files import check_regular, write_output

FORMAT_VERSION = 2
METADATA_FILES = ("config.json", "tokenizer.json", "manifest.json", "certificate.json")
QUANTIZATIONS = ("int8", "f16", "q8_0")  # also keys of a certificate
Progress = Callable[[str], None]
"""A function that is called with the name of each part of the work before it begins."""
STRICT = ConfigDict(strict=True, extra="allow")
_Token = Annotated[int, Field(ge=0, lt=2**31)]


@with_config(STRICT)
class Example(TypedDict):
    """A text that the file must reproduce, with its first token."""

    # temperature, top_k, top_p, seed; since format 2 also min_p, repetition_penalty, min_new_tokens
    settings: (
        tuple[float, _Token, float, Seed] | tuple[float, _Token, float, Seed, float, float, _Token]
    )
    tokens: Annotated[list[_Token], Field(min_length=1)]
    text: str


@with_config(STRICT)
class Cost(TypedDict):
    """The difference of a changed model from the exact one; see `int8.compare_next_tokens`."""

    kl_mean: float
    kl_max: NotRequired[float]  # Older files of GGUF lack it.
    top1: float


@with_config(STRICT)
class Certificate(TypedDict):
    """The proofs of a file: the report of `verify`, the cost of int8, and example texts."""

    format_version: int
    parity: dict[str, Any] | None
    int8: Cost | None
    examples: Annotated[list[Example], Field(min_length=1)]


_CERTIFICATE = TypeAdapter(Certificate)


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a file that `python -m bridge export` wrote, by file name.

    Raises:
        UserError: The file is missing, damaged, of a newer version, or not from `export`.
    """
    expected = "expected a file that `python -m bridge export` wrote"
    try:
        check_regular(path)
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; {expected}; check the path"
        ) from error
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is not a TorchScript file; {expected}")
    members = read_zip_directory(path, "extra")
    if missing := [name for name in METADATA_FILES if name not in members]:
        raise UserError(f"{path} has no {missing[0]}; {expected}")
    try:
        metadata = {name: json.loads(members[name]) for name in METADATA_FILES}
        version = metadata["certificate.json"]["format_version"]
        if version > FORMAT_VERSION:
            raise UserError(
                f"{path} has format {version}; this version reads up to {FORMAT_VERSION}: "
                "upgrade to read it"
            )
        certificate = _CERTIFICATE.validate_json(members["certificate.json"])
        return metadata | {"certificate.json": certificate}
    except ValidationError as error:
        raise UserError(
            f"{path} has a damaged certificate: {explain_error(error)}; export the bundle again"
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} has damaged metadata: {type(error).__name__} {error}; export the bundle again"
        ) from error


def describe_certificate(certificate: Mapping[str, Any]) -> str:
    """Describe a certificate in one line."""
    parity = certificate["parity"]
    if parity is None:
        proof = "not proven equal: run `python -m bridge verify` before `export`"
    elif parity.get("passed"):
        proof = "proven equal by `python -m bridge verify`"
    else:
        divergence = parity.get("first_divergence")
        proof = f"NOT equal: `python -m bridge verify` found a difference, first in {divergence}"
    description = f"{len(certificate['examples'])} example texts reproduced; "
    for name in QUANTIZATIONS:
        if cost := certificate.get(name):
            return (
                f"{description}the weights before {name} are {proof}; {describe_cost(name, cost)}"
            )
    return description + proof


def describe_cost(name: str, cost: Mapping[str, float]) -> str:
    """Describe in one line what `name`, such as a quantization, costs in quality."""
    return (
        f"{name} costs {cost['kl_mean']:.1e} nats per token and keeps the most probable token at "
        f"{cost['top1']:.1%} of the positions"
    )


def ignore_progress(part: str) -> None:
    """Report no progress."""


@contextmanager
def publish_checked(out: Path, suffix: str, progress: Progress) -> Iterator[Path]:
    """Yield a temporary file that becomes `out` at the end, after a check.

    `python -m bridge check` runs in a new process.

    Args:
        out: An output; see `valyrian_jax.files.write_output`.
        suffix: Suffix of the temporary file, by which `check` knows the format.
        progress: Function that is called with the name of each part of the work.

    Raises:
        UserError: `out` cannot be written, or the file fails its check.
    """
    with write_output(out, suffix) as partial:
        yield partial
        progress("checking the file in a new process")
        process = subprocess.run(
            [sys.executable, "-m", "bridge", "check", partial.absolute()],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if process.returncode:
            raise UserError(
                f"{out} was not written: the file fails its check: {process.stderr.strip()}"
            )
