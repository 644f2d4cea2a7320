"""The one file that needs nothing else: model, tokenizer and sampler as TorchScript, with their papers inside.

PyTorch has announced the end of `torch.jit`: only this file touches it, and `bridge.exported_program` writes what comes after.
Loading such a file runs code that it brings, so load only what you trust.
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
    publish_checked,
    read_metadata,
)
from bridge.generator import Generator
from bridge.int8 import Int8Embedding, Int8Linear, quantize
from bridge.tokenizer import ByteBPE, well_formed
from valyrian_jax.bundle.bundle import Bundle, load_bundle
from valyrian_jax.bundle.text_generation import resolve_sample_config
from valyrian_jax.errors import UserError
from valyrian_jax.files import read_json_object, sha256_of_file
from valyrian_jax.tokenizer import Tokenizer

# (temperature, top_k, top_p, seed) of the texts that a file must give wherever it is
EXAMPLES = ((0.0, 0, 1.0, 0), (0.8, 0, 0.95, 1), (1.0, 20, 1.0, 2), (1.3, 0, 1.0, 4294967295))


class TextGenerator(Generator):
    """What a file holds: text in, text out. Written for TorchScript alone, where a str is a string of bytes."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.bpe = ByteBPE(bundle.tokenizer)
        self.end_of_text = bundle.tokenizer.end_of_text
        s = resolve_sample_config(bundle, {})
        self.settings = (s.max_new_tokens, s.temperature, s.top_k, s.top_p, s.seed)

    def defaults(self) -> tuple[int, float, int, float, int]:
        """How the bundle's run drew its samples: max_new_tokens, temperature, top_k, top_p, seed."""
        return self.settings

    def generate_text(
        self,
        prompt: str,
        max_new_tokens: int,
        temperature: float,
        top_k: int,
        top_p: float,
        seed: int,
    ) -> str:
        """Continue a prompt until the document ends or for max_new_tokens: the whole text, prompt included.

        An empty prompt is the beginning of a document.
        """
        prompt = self.decode(
            self.encode(prompt)
        )  # malformed UTF-8 is replaced, as Python does before it encodes
        ids = self.encode(prompt)
        start = ids if len(ids) > 0 else [self.end_of_text]
        tokens = torch.tensor([start], dtype=torch.int64, device=self.bpe.byte_ids.device)
        out = self.extend(tokens, max_new_tokens, temperature, top_k, top_p, seed, self.end_of_text)
        new: list[int] = out[0, len(start) :].tolist()
        return prompt + self.decode(new)

    def encode(self, text: str) -> list[int]:
        """Token ids of any bytes; malformed UTF-8 is kept as it is."""
        data = [ord(byte) for byte in list(text)]  # a loop over the str itself is quadratic
        ids: list[int] = self.bpe.encode(
            torch.tensor(data, dtype=torch.int64, device=self.bpe.byte_ids.device)
        ).tolist()
        return ids

    def decode(self, ids: list[int]) -> str:
        """Text of token ids, with U+FFFD for every part that is not UTF-8 (see `bridge.tokenizer.characters`)."""
        for i in ids:
            if i < 0 or i >= self.bpe.vocab_size:
                raise ValueError("a token id is outside the vocabulary")
        tokens = torch.tensor(ids, dtype=torch.int64, device=self.bpe.byte_ids.device)
        data: list[int] = well_formed(self.bpe.decode(tokens)).tolist()
        return "".join([chr(byte) for byte in data])


for method in (
    *(Generator.new_cache, Generator.step, Generator.sample, Generator.generate),
    *(
        TextGenerator.defaults,
        TextGenerator.generate_text,
        TextGenerator.encode,
        TextGenerator.decode,
    ),
    *(
        Int8Linear.__getstate__,
        Int8Linear.__setstate__,
        Int8Embedding.__getstate__,
        Int8Embedding.__setstate__,
    ),
):
    torch.jit.export(method)  # a mark: what is not called from forward is compiled too


def script(generator: TextGenerator) -> torch.jit.ScriptModule:
    """The module as TorchScript, compiled from its source: no shape is frozen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(generator)


def export(directory: Path, out: Path, int8: bool = False) -> Mapping[str, Any]:
    """Write a bundle directory as one TorchScript file, then load it in a fresh process and check it there.

    Args:
        directory: the bundle.
        out: the file, which is whole or absent, whatever happens.
        int8: round the matrices to int8 (see `bridge.int8`), and say what that costs.

    Returns:
        The certificate that lies in the file.

    Raises:
        UserError: the bundle is refused, the place cannot be written, or the file gives other tokens than the module.
    """
    with publish_checked(out) as partial:
        return write(directory, partial, int8)


def write(directory: Path, path: Path, int8: bool = False) -> Mapping[str, Any]:
    """As `export`, but straight to the path and without the check."""
    source = load_bundle(directory)
    generator = TextGenerator(source)
    cost = quantize(generator, generator.end_of_text) if int8 else None
    certificate = {
        "format_version": FORMAT_VERSION,
        "torch": torch.__version__,
        "parity": read_parity(directory),
        "int8": cost,
        "examples": examples(generator, source.tokenizer),
    }
    texts = {name: _text(directory / name) for name in METADATA_FILES[:3]}
    texts["certificate.json"] = json.dumps(certificate, ensure_ascii=False)
    content = io.BytesIO()  # to a file, torch aborts where the disk is full
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(script(generator), content, _extra_files=texts)
    path.write_bytes(content.getvalue())
    return certificate


def load(path: Path) -> tuple[torch.jit.ScriptModule, dict[str, Any]]:
    """Open a file that `export` wrote: the module, and its papers by name.

    Raises:
        UserError: there is no such file, it is no TorchScript, or not one of ours.
    """
    found = read_metadata(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(str(path), map_location="cpu"), found
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{path} is damaged or no TorchScript file: PyTorch says {reason}"
        ) from error


def check(path: Path) -> dict[str, Any]:
    """Open a file, let it give the texts of its certificate again, and return its papers.

    Raises:
        UserError: the file cannot be opened (see `load`) or gives other tokens.
    """
    module, found = load(path)
    try:
        for example in found["certificate.json"]["examples"]:
            _check_example(path, module, example)
    except UserError:
        raise
    except Exception as error:  # the program in the file can fail anywhere
        reason = str(error).strip().rpartition("\n")[2]
        raise UserError(
            f"{path} cannot give the texts that it gave where it was made: {reason}"
        ) from error
    return found


def _check_example(path: Path, module: torch.jit.ScriptModule, example: Example) -> None:
    settings, expected = example["settings"], example["tokens"]
    found = module.generate(torch.tensor([expected[:1]]), len(expected) - 1, *settings)[0].tolist()
    if found != expected:
        place = next(i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
        raise UserError(
            f"{path} gives other tokens here than where it was made: with (temperature, top_k, top_p, seed) = "
            f"{settings}, token {place} is {found[place]}, expected {expected[place]}"
        )
    text = module.decode(expected[1:])
    if text != example["text"]:
        raise UserError(
            f"{path} writes {text!r} for tokens that were {example['text']!r} where it was made"
        )
    if module.decode(module.encode(text)) != text:
        raise UserError(f"{path} does not give a text back: {text!r}")


def examples(generator: Generator, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """Texts that the module generates, each half as long again as the context."""
    found = []
    start, length = torch.tensor([[tokenizer.end_of_text]]), generator.gpt.n_positions * 3 // 2
    for settings in EXAMPLES:
        tokens = generator.generate(start, length, *settings)[0].tolist()
        found.append({"settings": settings, "tokens": tokens, "text": tokenizer.decode(tokens[1:])})
    return found


def read_parity(directory: Path) -> Any:
    """What `python -m bridge verify` found for exactly this bundle, or None."""
    path = directory / "parity.json"
    if not path.exists():
        return None
    parity = read_json_object(path)
    return parity if parity.get("sha256") == fingerprint(directory) else None


def fingerprint(directory: Path) -> dict[str, str]:
    """The hashes of what makes a model: weights, configuration and tokenizer of a bundle directory."""
    return {
        name: sha256_of_file(directory / name)
        for name in ("model.safetensors", "config.json", "tokenizer.json")
    }


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else "{}"
