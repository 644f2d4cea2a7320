"""The papers in a TorchScript file: what it was made from, and what it must give. They are read without PyTorch.

So a damaged file, or one from elsewhere, is refused before PyTorch touches the program in it.
"""

import json
import zipfile
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic wants it before Python 3.12

from valyrian_jax.config import Seed, explain_error
from valyrian_jax.errors import UserError

from . import archive

FORMAT_VERSION = 1
PAPERS = ("config.json", "tokenizer.json", "manifest.json", "certificate.json")
_STRICT = ConfigDict(strict=True, extra="allow")
_Token = Annotated[int, Field(ge=0, lt=2**31)]


@with_config(_STRICT)
class Example(TypedDict):
    """A text that the file must give, from its first token on."""

    settings: tuple[float, _Token, float, Seed]  # temperature, top_k, top_p, seed
    tokens: Annotated[list[_Token], Field(min_length=1)]
    text: str


@with_config(_STRICT)
class Cost(TypedDict):
    """What int8 costs; see `bridge.quantize`."""

    kl_mean: float
    top1: float


@with_config(_STRICT)
class Certificate(TypedDict):
    """What is certified of a file."""

    format_version: int
    parity: dict[str, Any] | None
    int8: Cost | None
    examples: Annotated[list[Example], Field(min_length=1)]


_CERTIFICATE = TypeAdapter(Certificate)


def read(path: Path) -> dict[str, Any]:
    """The papers of a file that `python -m bridge export` wrote, by name.

    Raises:
        UserError: there is no such file, it is damaged, not one of ours, or of a newer version.
    """
    expected = "expected a file that `python -m bridge export` wrote"
    if not path.is_file():
        raise UserError(f"cannot read {path}; {expected}")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is not a TorchScript file; {expected}")
    found = archive.unpacked(path, "extra")
    if not {*PAPERS} <= found.keys():
        raise UserError(f"{path} is a TorchScript file, but not one that `python -m bridge export` wrote")
    try:
        papers = {name: json.loads(found[name]) for name in PAPERS}
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
