"""One TorchScript file with the model, the tokenizer and the sampler: text in, text out.

PyTorch has deprecated `torch.jit`, so only this module uses it; `bridge.exported_program` writes
the format that replaces it. Loading a file runs the program in it; load only files that you trust.
"""

import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bridge.export_metadata import (
    FORMAT_VERSION,
    METADATA_FILES,
    Example,
    Progress,
    ignore_progress,
    publish_checked,
    read_metadata,
)
from bridge.generator import Generator
from bridge.int8 import Int8Embedding, Int8Linear, quantize
from bridge.parity_report import read_report
from bridge.text_generator import TextGenerator
from bridge.torch_settings import pin_torch_settings
from valyrian_jax.bundle.bundle import load_bundle
from valyrian_jax.errors import UserError
from valyrian_jax.files import name_in_utf8, read_text
from valyrian_jax.tokenizer import Tokenizer

# Temperature, top_k, top_p, seed, min_p, repetition_penalty and min_new_tokens of the example texts
# that every file must reproduce; the last three may be left out.
EXAMPLE_SETTINGS: tuple[tuple[Any, ...], ...] = (
    (0.0, 0, 1.0, 0),
    (0.8, 0, 0.95, 1),
    (1.0, 20, 1.0, 2),
    (1.3, 0, 1.0, 4294967295),
    (1.0, 0, 0.95, 3, 0.05, 1.3, 20),
    (0.0, 0, 1.0, 4, 0.0, 1.5, 40),
)
EXAMPLE_READ_BYTES = 1 << 35  # limit on the bytes of weights that generating all examples reads


def compile_module(generator: TextGenerator) -> torch.jit.ScriptModule:
    """Compile a module from its source code to TorchScript; every size stays dynamic."""
    for method in (
        Generator.new_cache,
        Generator.step,
        Generator.sample,
        Generator.generate,
        TextGenerator.defaults,
        TextGenerator.generate_text,
        TextGenerator.generate_texts,
        TextGenerator.encode,
        TextGenerator.decode,
        Int8Linear.__getstate__,
        Int8Linear.__setstate__,
        Int8Embedding.__getstate__,
        Int8Embedding.__setstate__,
    ):
        torch.jit.export(method)  # Outside forward, TorchScript skips methods without this mark.
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        module = torch.jit.script(generator)
    if not isinstance(module, torch.jit.ScriptModule):
        raise UserError(
            "cannot compile the model: expected PYTORCH_JIT to be unset, found a value that turns "
            "TorchScript off; unset it"
        )
    return module


def export(
    directory: Path, out: Path, int8: bool = False, progress: Progress = ignore_progress
) -> Mapping[str, Any]:
    """Write a bundle as one TorchScript file and check the file in a new process.

    Args:
        directory: Directory of the bundle.
        out: File to write; unchanged after an error.
        int8: Round the matrices to int8 and measure the cost (see `bridge.int8`).
        progress: Function that is called with the name of each part of the work.

    Returns:
        The certificate in the file.

    Raises:
        UserError: The bundle is invalid, the file cannot be written, or it fails its check.
    """
    with publish_checked(out, ".pt", progress) as partial:
        return write(directory, partial, int8, progress)


@pin_torch_settings()
def write(
    directory: Path, path: Path, int8: bool = False, progress: Progress = ignore_progress
) -> Mapping[str, Any]:
    """Write a bundle as one TorchScript file, like `export`, but without the check."""
    progress("loading the weights")
    bundle = load_bundle(directory)
    generator, tokenizer = TextGenerator(bundle), bundle.tokenizer
    del bundle  # The generator has a copy of the weights.
    if int8:
        progress("rounding the weights to int8, and measuring the cost")
    int8_cost = quantize(generator, generator.end_of_text) if int8 else None
    progress("generating the example texts")
    certificate = {
        "format_version": FORMAT_VERSION,
        "torch": torch.__version__,
        "parity": read_report(directory),
        "int8": int8_cost,
        "examples": generate_examples(generator, tokenizer),
    }
    extra_files = {name: _read_or_empty(directory / name) for name in METADATA_FILES[:3]}
    extra_files["certificate.json"] = json.dumps(certificate, ensure_ascii=False)
    module = compile_module(generator)
    progress("writing the file")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        archive = module.save_to_buffer(_extra_files=extra_files)
    del module, generator  # One copy of the weights is enough.
    path.write_bytes(_drop_sources(archive))
    return certificate


def _drop_sources(archive: bytes) -> memoryview:
    """Return a TorchScript file without the debug records that point into our source code.

    They name directories of this machine and lengthen every error of the program. The result is in
    memory, because PyTorch aborts the process when it cannot write to a file.
    """
    reader, buffer = torch._C.PyTorchFileReader(io.BytesIO(archive)), io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    writer.set_min_version(int(reader.get_record(".data/version")))  # of the operators
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and not name.startswith(".data/"):
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    return buffer.getbuffer()


def load(path: Path) -> tuple[torch.jit.ScriptModule, dict[str, Any]]:
    """Open a file that `export` wrote; return its module, and its metadata by file name."""
    metadata = read_metadata(path)
    try:
        with (
            warnings.catch_warnings(action="ignore", category=DeprecationWarning),
            name_in_utf8(path) as name,
        ):
            return torch.jit.load(name, map_location="cpu"), metadata
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{path} is damaged or not a TorchScript file: {reason}; export the bundle again"
        ) from error


@pin_torch_settings()
def check(path: Path) -> dict[str, Any]:
    """Generate the example texts of a file again and return its metadata by file name.

    Raises:
        UserError: `load` cannot open the file, or an example differs.
    """
    module, metadata = load(path)
    try:
        for example in metadata["certificate.json"]["examples"]:
            _check_example(path, module, example)
    except UserError:
        raise
    except Exception as error:  # The program in the file can raise any error.
        reason = str(error).strip().rpartition("\n")[2].rpartition("UserError: ")[2]
        raise UserError(
            f"{path} fails to generate its example texts: {reason}; export the bundle again"
        ) from error
    return metadata


def _check_example(path: Path, module: torch.jit.ScriptModule, example: Example) -> None:
    settings, expected = example["settings"], example["tokens"]
    start = torch.tensor([expected[:1]])
    tokens = module.generate(start, len(expected) - 1, *settings)[0].tolist()
    if tokens != expected:
        pairs = enumerate(zip(tokens, expected, strict=True))
        index = next(i for i, (token, expected_token) in pairs if token != expected_token)
        raise UserError(
            f"{path} generates other tokens than when it was exported: with the settings "
            f"{settings}, expected token {index} to be {expected[index]}, "
            f"found {tokens[index]}; export the bundle again"
        )
    text = module.decode(expected[1:])
    if text != example["text"]:
        raise UserError(
            f"{path} decodes tokens to another text than when it was exported: "
            f"expected {example['text']!r}, found {text!r}; export the bundle again"
        )
    decoded = module.decode(module.encode(text))
    if decoded != text:
        raise UserError(
            f"{path} does not restore a text that it encoded: expected {text!r}, "
            f"found {decoded!r}; export the bundle again"
        )


def generate_examples(generator: Generator, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """Generate the example texts, each 1.5 times as long as the context.

    Every token reads all weights, so the texts of a large model are shorter.
    """
    examples = []
    weights = sum(tensor.nbytes for tensor in generator.gpt.state_dict().values())
    longest = max(1, EXAMPLE_READ_BYTES // weights // len(EXAMPLE_SETTINGS))
    length = min(generator.gpt.n_positions * 3 // 2, longest)
    start = torch.tensor([[tokenizer.end_of_text]])
    for settings in EXAMPLE_SETTINGS:
        tokens = generator.generate(start, length, *settings)[0].tolist()
        text = tokenizer.decode(tokens[1:])
        examples.append({"settings": settings, "tokens": tokens, "text": text})
    return examples


def _read_or_empty(path: Path) -> str:
    return read_text(path) if path.exists() else "{}"
