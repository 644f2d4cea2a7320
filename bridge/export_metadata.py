"""The papers in a TorchScript file: what it was made from, and what it must give. They are read without PyTorch.

So a damaged file, or one from elsewhere, is refused before PyTorch touches the program in it.
"""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic wants it before Python 3.12

from bridge.importers.zip_safety import unpack
from valyrian_jax.config import Seed, explain_error
from valyrian_jax.errors import UserError

FORMAT_VERSION = 1
METADATA_FILES = ("config.json", "tokenizer.json", "manifest.json", "certificate.json")
_STRICT = ConfigDict(strict=True, extra="allow")
_Token = Annotated[int, Field(ge=0, lt=2**31)]


@with_config(_STRICT)
class Example(TypedDict):
    """A text that the file must give, from its first token on."""

    settings: tuple[float, _Token, float, Seed]  # temperature, top_k, top_p, seed
    tokens: Annotated[list[_Token], Field(min_length=1)]
    text: str


@with_config(_STRICT)
class Int8Cost(TypedDict):
    """What int8 costs; see `bridge.int8`."""

    kl_mean: float
    top1: float


@with_config(_STRICT)
class Certificate(TypedDict):
    """What is certified of a file."""

    format_version: int
    parity: dict[str, Any] | None
    int8: Int8Cost | None
    examples: Annotated[list[Example], Field(min_length=1)]


_CERTIFICATE = TypeAdapter(Certificate)


def read_metadata(path: Path) -> dict[str, Any]:
    """The papers of a file that `python -m bridge export` wrote, by name.

    Raises:
        UserError: there is no such file, it is damaged, not one of ours, or of a newer version.
    """
    expected = "expected a file that `python -m bridge export` wrote"
    if not path.is_file():
        raise UserError(f"cannot read {path}; {expected}")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is not a TorchScript file; {expected}")
    found = unpack(path, "extra")
    if not {*METADATA_FILES} <= found.keys():
        raise UserError(
            f"{path} is a TorchScript file, but not one that `python -m bridge export` wrote"
        )
    try:
        papers = {name: json.loads(found[name]) for name in METADATA_FILES}
        version = papers["certificate.json"]["format_version"]
        if version > FORMAT_VERSION:
            raise UserError(
                f"{path} has format {version}; this version reads up to {FORMAT_VERSION}: upgrade to read it"
            )
        return papers | {"certificate.json": _CERTIFICATE.validate_json(found["certificate.json"])}
    except ValidationError as error:
        raise UserError(f"{path} has a damaged certificate: {explain_error(error)}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} has damaged papers: {type(error).__name__} {error}") from error


@contextmanager
def publish_checked(out: Path) -> Iterator[Path]:
    """Give a path beside `out` to write to; at the end `python -m bridge check` opens it, and it gets its name.

    Raises:
        UserError: `out` is a directory, or the file fails its check. Whatever happens, nothing unfinished is left.
    """
    if not out.name or out.is_dir():
        raise UserError(f"cannot write {out}: it is a directory, expected the name of a file")
    partial = out.with_name(f"{out.stem}.partial{out.suffix}").absolute()
    try:
        partial.touch()  # a place that cannot be written fails before the work
        yield partial
        done = subprocess.run(
            [sys.executable, "-m", "bridge", "check", partial],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise UserError(
                f"{out} was not written, because the file fails its check: {done.stderr.strip()}"
            )
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
