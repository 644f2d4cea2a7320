"""A GGUF file with a certificate: what was compared before it was written, and example texts.

The examples and the cost of rounding are those of the weights in the file, in float32. Programs
that also round activations, as llama.cpp does with q8_0, can give other texts.
"""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
from gguf import GGMLQuantizationType as StorageType
from pydantic import Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic requires it before Python 3.12.

from bridge.export_metadata import (
    STRICT,
    Cost,
    Example,
    Progress,
    describe_certificate,
    describe_cost,
    ignore_progress,
    publish_checked,
)
from bridge.generator import Generator
from bridge.gguf.layout import PREFIX
from bridge.gguf.reader import read_header
from bridge.gguf.writer import count_fallbacks, round_weights, write_gguf
from bridge.importers.gpt2 import read_gpt2
from bridge.int8 import compare_next_tokens, sample_tokens
from bridge.parity_report import read_report
from bridge.torch_settings import pin_torch_settings
from bridge.torchscript import generate_examples
from valyrian_jax.bundle.bundle import Bundle, load_bundle
from valyrian_jax.config import explain_error
from valyrian_jax.errors import UserError
from valyrian_jax.files import read_text

FORMAT_VERSION = 1
QUANTIZED_TYPES = {"f16": StorageType.F16, "q8_0": StorageType.Q8_0}
_CERTIFICATE_KEY = f"{PREFIX}certificate"


@with_config(STRICT)
class Certificate(TypedDict):
    """The proofs of a file.

    Attributes:
        parity: The report of `verify`.
        f16: Cost of float16, if the matrices are float16.
        q8_0: Cost of blocks of int8, if the matrices are stored so.
        f16_fallbacks: Matrices that are float16 because their rows are not blocks of int8.
        tanh_gelu: Cost of llama.cpp's GELU, if the model has the exact one.
        examples: Texts that the file must reproduce.
    """

    format_version: int
    parity: dict[str, Any] | None
    f16: Cost | None
    q8_0: Cost | None
    f16_fallbacks: int
    tanh_gelu: Cost | None
    examples: Annotated[list[Example], Field(min_length=1)]


_CERTIFICATE = TypeAdapter(Certificate)


def export(
    directory: Path,
    out: Path,
    quantize: str | None = None,
    progress: Progress = ignore_progress,
) -> Certificate:
    """Write a bundle as a GGUF file and check the file in a new process.

    Args:
        directory: Directory of the bundle.
        out: File to write; unchanged after an error.
        quantize: Type of the matrices, one of `QUANTIZED_TYPES`; None: float32.
        progress: Function that is called with the name of each part of the work.

    Returns:
        The certificate in the file.

    Raises:
        UserError: The bundle is invalid, the file cannot be written, or it fails its check.
    """
    with publish_checked(out, ".gguf", progress) as partial:
        return write(directory, partial, quantize, progress)


@pin_torch_settings()
def write(
    directory: Path,
    path: Path,
    quantize: str | None = None,
    progress: Progress = ignore_progress,
) -> Certificate:
    """Write a bundle as a GGUF file, like `export`, but without the check."""
    progress("loading the weights")
    bundle = load_bundle(directory)
    matrix_type = QUANTIZED_TYPES[quantize] if quantize else StorageType.F32
    rounded = round_weights(bundle, matrix_type) if quantize else bundle
    is_exact_gelu = bundle.model.activation == "gelu"
    if quantize or is_exact_gelu:
        progress("measuring what the file changes")
    certificate: Certificate = {
        "format_version": FORMAT_VERSION,
        "parity": read_report(directory),
        "f16": measure_cost(bundle, rounded) if quantize == "f16" else None,
        "q8_0": measure_cost(bundle, rounded) if quantize == "q8_0" else None,
        "f16_fallbacks": count_fallbacks(bundle, matrix_type),
        "tanh_gelu": measure_cost(bundle, _use_tanh(bundle)) if is_exact_gelu else None,
        "examples": [],
    }
    progress("generating the example texts")
    examples: Any = generate_examples(Generator(rounded), bundle.tokenizer)
    certificate["examples"] = examples
    progress("writing the file")
    manifest = directory / "manifest.json"
    entries = {
        "config": read_text(directory / "config.json"),
        "manifest": read_text(manifest) if manifest.exists() else "{}",
        "certificate": json.dumps(certificate),
        "activation": bundle.model.activation,
    }
    write_gguf(path, bundle, matrix_type, entries, _read_card(directory))
    return certificate


def write_weights(directory: Path, path: Path) -> None:
    """Write a bundle in float32, with the settings that a program needs and no certificate."""
    bundle = load_bundle(directory)
    write_gguf(path, bundle, StorageType.F32, {"activation": bundle.model.activation})


def measure_cost(bundle: Bundle, other: Bundle) -> Cost:
    """Compare a bundle with another one, on texts sampled from the first.

    Raises:
        UserError: The logits of a model are not finite.
    """
    generator = Generator(bundle)
    tokens = sample_tokens(generator, generator.end_of_text)
    return compare_next_tokens(generator(tokens), Generator(other)(tokens))


@pin_torch_settings()
def check(path: Path) -> Certificate:
    """Generate the example texts of a file again and return its certificate.

    Raises:
        UserError: The file is damaged or not from `export`, or an example differs.
    """
    certificate = _read_certificate(path)
    bundle = read_gpt2(path).bundle
    generator = Generator(bundle)
    for example in certificate["examples"]:
        _check_example(path, bundle, generator, example)
    return certificate


def describe(certificate: Mapping[str, Any]) -> str:
    """Describe a certificate in one line."""
    description = describe_certificate(certificate)
    if count := certificate["f16_fallbacks"]:
        description += f"; {count} matrices are f16, because their rows are not blocks of 32"
    if certificate["tanh_gelu"]:
        cost = describe_cost(
            "the GELU of llama.cpp, which lacks the exact one,", certificate["tanh_gelu"]
        )
        description += f"; {cost}"
    return description


def _use_tanh(bundle: Bundle) -> Bundle:
    return replace(bundle, model=replace(bundle.model, activation="gelu_new"))


def _read_certificate(path: Path) -> Certificate:
    metadata = read_header(path).metadata
    content = metadata.get(_CERTIFICATE_KEY)
    if not isinstance(content, str):
        raise UserError(
            f"{path} has no certificate; expected a file that `python -m bridge export --format "
            "gguf` wrote; other files can be imported with `python -m bridge import`"
        )
    try:
        certificate = _CERTIFICATE.validate_json(content)
    except ValidationError as error:
        raise UserError(
            f"{path} has a damaged certificate: {explain_error(error)}; export the bundle again"
        ) from error
    if certificate["format_version"] > FORMAT_VERSION:
        raise UserError(
            f"{path} has format {certificate['format_version']}; this version reads up to "
            f"{FORMAT_VERSION}: upgrade to read it"
        )
    return certificate


def _check_example(path: Path, bundle: Bundle, generator: Generator, example: Example) -> None:
    settings, expected = example["settings"], example["tokens"]
    if len(expected) > 2 * bundle.model.n_positions or max(expected) >= bundle.model.vocab_size:
        raise UserError(f"{path} has damaged example texts; export the bundle again")
    start = torch.tensor([expected[:1]])
    tokens = generator.generate(start, len(expected) - 1, *settings)[0].tolist()
    if tokens != expected or bundle.tokenizer.decode(tokens[1:]) != example["text"]:
        raise UserError(
            f"{path} generates another text than when it was exported, with the settings "
            f"{settings}: expected {example['text']!r}, found "
            f"{bundle.tokenizer.decode(tokens[1:])!r}; export the bundle again"
        )


def _read_card(directory: Path) -> str:
    """Return the model card, which its owner may edit or remove; "" if it cannot be read."""
    with contextlib.suppress(UserError):
        return read_text(directory / "README.md")
    return ""
