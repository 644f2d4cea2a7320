"""Write a bundle as a GGUF file; the same bundle and entries give the same bytes."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as StorageType
from gguf import GGUFValueType, TokenType

from bridge.gguf.layout import (
    ARCHITECTURE,
    PREFIX,
    choose_type,
    count_bytes,
    decode,
    is_transposed,
    tensor_names,
)
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.names import Tensors
from valyrian_jax.bundle.text_generation import resolve_sample_config
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer, hf_format

_FILE_TYPES = {
    StorageType.F32: gguf.LlamaFileType.ALL_F32,
    StorageType.F16: gguf.LlamaFileType.MOSTLY_F16,
    StorageType.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
}
_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
_LICENSE = re.compile(r"^license: ([\w.-]+)$", re.MULTILINE)
_LANGUAGE = re.compile(r"^language: ([\w-]+)$", re.MULTILINE)


def round_weights(bundle: Bundle, matrix_type: StorageType) -> Bundle:
    """Return the bundle with its weights rounded as a file of this type stores them.

    Raises:
        UserError: A weight is too large for the type.
    """
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    for name, tensor, storage, stored in _list_tensors(bundle, matrix_type):
        rounded = decode(_encode(tensor, storage), storage)
        if not np.isfinite(rounded).all():
            raise UserError(
                f"cannot store {stored} as {storage.name}: expected numbers up to 65,504, found "
                f"{np.abs(tensor).max():.3g}; leave --quantize out"
            )
        tensors[name] = rounded.T if is_transposed(name, tensor) else rounded
    return replace(bundle, tensors=tensors)


def count_fallbacks(bundle: Bundle, matrix_type: StorageType) -> int:
    """Return how many matrices are float16 because their rows are not whole blocks."""
    types = [storage for _, _, storage, _ in _list_tensors(bundle, matrix_type)]
    return types.count(StorageType.F16) if matrix_type != StorageType.F16 else 0


def write_gguf(
    path: Path, bundle: Bundle, matrix_type: StorageType, entries: Mapping[str, str], card: str = ""
) -> None:
    """Write a bundle as a GGUF file.

    Args:
        path: File to write.
        bundle: Weights in float32, and their tokenizer.
        matrix_type: Type of the matrices; see `bridge.gguf.layout.choose_type`.
        entries: More metadata; its keys lack our prefix.
        card: Model card, which names the licence and the language.

    Raises:
        UserError: llama.cpp could not open the file: the tokenizer has no merges, or the epsilon is
            no positive float32.
        OSError: The file cannot be written.
    """
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    try:
        _add_model(writer, bundle, matrix_type, card)
        _add_tokenizer(writer, bundle.tokenizer)
        _add_samplers(writer, bundle)
        for key, value in entries.items():
            writer.add_string(PREFIX + key, value)
        for _, tensor, storage, stored in _list_tensors(bundle, matrix_type):
            size = count_bytes(tensor.shape, storage)
            writer.add_tensor_info(stored, tensor.shape, tensor.dtype, size, storage)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()
    # We write the data ourselves: the error of the package for a full disk gives no reason.
    with path.open("ab") as file:
        for _, tensor, storage, _ in _list_tensors(bundle, matrix_type):
            file.write(bytes(-file.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))
            file.write(_encode(tensor, storage).data)
        file.write(bytes(-file.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))


def _list_tensors(
    bundle: Bundle, matrix_type: StorageType
) -> Iterator[tuple[str, npt.NDArray[np.float32], StorageType, str]]:
    """Yield the name, the values as in a file, the type and llama.cpp's name of every tensor."""
    tensors: Tensors = bundle.tensors
    for name, stored in tensor_names(bundle.model).items():
        if name in tensors:
            tensor = tensors[name].astype(np.float32, copy=False)
            tensor = tensor.T if is_transposed(name, tensor) else tensor
            yield name, tensor, choose_type(stored, tensor.shape, matrix_type), stored


def _encode(tensor: npt.NDArray[np.float32], storage: StorageType) -> npt.NDArray[Any]:
    with np.errstate(all="ignore"):  # Too large a value becomes infinite; see `round_weights`.
        return np.ascontiguousarray(gguf.quants.quantize(tensor, storage))


def _add_model(
    writer: gguf.GGUFWriter, bundle: Bundle, matrix_type: StorageType, card: str
) -> None:
    model = bundle.model
    if not _SMALLEST <= model.layer_norm_epsilon <= _LARGEST:
        raise UserError(
            f"cannot export layer_norm_epsilon = {model.layer_norm_epsilon} as GGUF: expected a "
            "positive float32; use --format torchscript"
        )
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_file_type(_FILE_TYPES[matrix_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    front_matter = card.removeprefix("---\n").partition("\n---\n")[0]
    if (license := _LICENSE.search(front_matter)) and license[1] != "unknown":
        writer.add_license(license[1])
    if language := _LANGUAGE.search(front_matter):
        writer.add_languages([language[1]])
    writer.add_context_length(model.n_positions)
    writer.add_embedding_length(model.n_embd)
    writer.add_feed_forward_length(4 * model.n_embd)
    writer.add_block_count(model.n_layer)
    writer.add_head_count(model.n_head)
    writer.add_layer_norm_eps(model.layer_norm_epsilon)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    content = hf_format.to_json(
        hf_format.Vocabulary(tokenizer.tokens, tokenizer.merges, tokenizer.special)
    )["model"]
    special = {*tokenizer.special.values()}
    if not content["merges"]:
        raise UserError(
            "cannot export a tokenizer without merges as GGUF: llama.cpp expects at least one; "
            "use --format torchscript"
        )
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*content["vocab"]])
    writer.add_token_types(
        [
            TokenType.CONTROL if i in special else TokenType.NORMAL
            for i in range(tokenizer.vocab_size)
        ]
    )
    writer.add_token_merges([" ".join(pair) for pair in content["merges"]])
    for add in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_pad_token_id):
        add(tokenizer.end_of_text)
    writer.add_add_bos_token(False)  # Our runtimes add no token to a prompt.
    writer.add_add_eos_token(False)


def _add_samplers(writer: gguf.GGUFWriter, bundle: Bundle) -> None:
    """Add the sampling settings of the run: llama.cpp's keys, and all of them under our prefix."""
    sample = resolve_sample_config(bundle, {})
    writer.add_sampling_temp(min(sample.temperature, _LARGEST))
    writer.add_sampling_top_k(sample.top_k)
    writer.add_sampling_top_p(min(sample.top_p, 1.0))
    writer.add_sampling_min_p(sample.min_p)
    for name, value in vars(sample).items():
        key = f"{PREFIX}sample.{name}"
        if isinstance(value, float):
            writer.add_float64(key, value)
        elif isinstance(value, int):
            writer.add_key_value(key, value, GGUFValueType.UINT64)
        elif isinstance(value, tuple):
            writer.add_array(key, value)  # An empty one is left out, like an empty string.
