"""The model card of a bundle: `README.md` with metadata that model hubs read.

A card says only what the manifest knows, and a manifest may lack any entry.
"""

import json
import math
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from valyrian_jax.bundle.names import count_parameters
from valyrian_jax.config import ModelConfig, list_settings

LANGUAGE = "High Valyrian"
_HUB_NAME = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_.-]*/)?[A-Za-z0-9][A-Za-z0-9_.-]*")
_MAX_NAME = 96  # characters
_METRICS = {
    "bits_per_byte": "Bits per byte on held-out text",
    "nats_per_token": "Nats per token on held-out text",
}

_SHOWN_VERSIONS = (
    "device",
    "processor",
    "python",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
)
_SECTIONS_WITHOUT_EFFECT = ("wandb",)

_EXAMPLE = """\
In this directory, with `transformers` and `torch` installed:

```python
from transformers import pipeline

generate = pipeline("text-generation", model=".")
print(generate("{prompt}")[0]["generated_text"])
```

A text has at most {n_positions} tokens, prompt included: the model has learned that many positions.
"""


def make_card(model: ModelConfig, manifest: Mapping[str, Any]) -> str:
    """Return the text of the card.

    It uses these entries of the manifest, if they exist: "config", "step", "held_out", "overlap",
    "versions", "language", "base_model" and "imported_from".
    """
    metrics = _read_metrics(manifest)
    is_valyrian = speaks_valyrian(manifest)
    front_matter = "\n".join(_make_front_matter(manifest, metrics, is_valyrian))
    example = _EXAMPLE.format(
        prompt="Vala" if is_valyrian else "The", n_positions=f"{model.n_positions:,}"
    )
    paragraphs = (
        " ".join(_describe_origin(manifest, metrics)),
        " ".join(_describe_reproduction(manifest)),
    )
    origin = "\n\n".join(filter(None, paragraphs))
    title = "A small GPT for High Valyrian" if is_valyrian else "A GPT-2"
    return (
        f"---\n{front_matter}\n---\n\n# {title}\n\n"
        f"{count_parameters(model):,} parameters: {model.n_layer} blocks, width {model.n_embd:,}, "
        f"{model.n_head} heads, a vocabulary of {model.vocab_size:,} tokens and a context of "
        f"{model.n_positions:,}.\n\n{origin}{chr(10) * 2 if origin else ''}{example}"
    )


def speaks_valyrian(manifest: Mapping[str, Any]) -> bool:
    """Return whether a bundle was trained on High Valyrian, so that verdicts mean something.

    The grammar generated the text if its entropy is known; for other texts, training has checked
    the words and stored the language.
    """
    is_generated = "entropy_bits_per_byte" in _read_metrics(manifest)
    return is_generated or manifest.get("language") == LANGUAGE


def base_model_name(manifest: Mapping[str, Any], path: PurePath) -> str:
    """Return the name that the card of a fine-tuned model gives to the bundle that it starts from.

    It is in the manifest, or follows from the absolute path: a run gives its name to its bundle.
    """
    name = path.parent.name if path.name == "bundle" else path.name
    return _read_name(manifest, "imported_from") or clean_name(name)


def clean_name(name: str) -> str:
    """Return a name without characters that a card or a terminal cannot show."""
    shown = "".join(c for c in name if c.isprintable() and c != "`")
    return shown[:_MAX_NAME].strip()


def _read_metrics(manifest: Mapping[str, Any]) -> dict[str, float]:
    held_out = manifest.get("held_out")
    values = held_out.items() if isinstance(held_out, Mapping) else ()
    return {
        name: float(value)
        for name, value in values
        if isinstance(value, float) and math.isfinite(value)
    }


def _read_name(manifest: Mapping[str, Any], key: str) -> str:
    value = manifest.get(key)
    return clean_name(value) if isinstance(value, str) else ""


def _read_data_name(manifest: Mapping[str, Any]) -> str:
    """Return the name of the file or directory of the text, without its path."""
    config = manifest.get("config")
    data = config.get("data") if isinstance(config, Mapping) else None
    path = data.get("path") if isinstance(data, Mapping) else None
    return clean_name(PurePath(path).stem) if isinstance(path, str) else ""


def _make_front_matter(
    manifest: Mapping[str, Any], metrics: Mapping[str, float], is_valyrian: bool
) -> Iterator[str]:
    """Yield lines of YAML. JSON strings and numbers are YAML too."""
    base = _read_name(manifest, "base_model")
    if is_valyrian:
        yield "language: art"  # ISO 639-2 for constructed languages; High Valyrian has no code
    is_ours = "entropy_bits_per_byte" in metrics and not base  # The grammar generated the text.
    yield f"license: {'mit' if is_ours else 'unknown'}"
    yield "library_name: transformers"
    yield "pipeline_tag: text-generation"
    yield "tags:\n- gpt2\n- valyrian-gpt"
    if is_valyrian:
        yield "- high-valyrian"
    if _HUB_NAME.fullmatch(base):
        yield f"base_model: {json.dumps(base)}"
    data = _read_data_name(manifest)
    shown = {name: title for name, title in _METRICS.items() if name in metrics}
    if data and shown:
        yield "model-index:\n- name: valyrian-gpt\n  results:"
        yield "  - task:\n      type: text-generation"
        yield f"    dataset:\n      name: {json.dumps(data, ensure_ascii=False)}\n      type: text"
        yield "    metrics:"
        for name, title in shown.items():
            yield f"    - type: {name}\n      name: {title}\n      value: {metrics[name]:.6f}"


def _describe_origin(manifest: Mapping[str, Any], metrics: Mapping[str, float]) -> Iterator[str]:
    """Yield the sentences about where the weights come from."""
    imported, base = _read_name(manifest, "imported_from"), _read_name(manifest, "base_model")
    data, step = _read_data_name(manifest), manifest.get("step")
    if imported:
        yield f"Imported from `{imported}`."
    if isinstance(step, int) and data:
        start = f", from the weights of `{base}`," if base else ""
        yield f"Trained{start} on `{data}` for {step:,} steps with valyrian-gpt."
    if "bits_per_byte" in metrics:
        yield f"On held-out text: {metrics['bits_per_byte']:.4f} bits per byte."
    if "entropy_bits_per_byte" in metrics:
        entropy = metrics["entropy_bits_per_byte"]
        yield f"The entropy of that text, which no model can expect to beat, is {entropy:.4f}."
    if overlap := _describe_overlap(manifest):
        yield overlap


def _describe_overlap(manifest: Mapping[str, Any]) -> str:
    """Return the sentence about the overlap of the two parts of the text; "" if it is unknown."""
    overlap = manifest.get("overlap")
    share, unit = map(overlap.get, ("share", "unit")) if isinstance(overlap, Mapping) else ("", "")
    if not (isinstance(share, float) and 0 <= share <= 1 and isinstance(unit, str)):
        return ""
    return f"{share:.1%} of the held-out {clean_name(unit)} are also in the training part."


def _describe_reproduction(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield the sentences about the command, the machine and the versions that made the weights."""
    versions = manifest.get("versions")
    if manifest.get("imported_from") or not isinstance(versions, Mapping):
        return
    shown = {
        name: clean_name(value)
        for name, value in versions.items()
        if name in _SHOWN_VERSIONS and isinstance(value, str)
    }
    device, processor = shown.pop("device", ""), shown.pop("processor", "")
    machine = f" on {device}{f' ({processor})' if processor else ''}" if device else ""
    if not manifest.get("base_model") and (command := _make_training_command(manifest)):
        yield f"Made{machine} by `{command}`."
    elif machine:
        yield f"Made{machine}."
    if shown:
        yield f"Versions: {', '.join(f'{name} {value}' for name, value in shown.items())}."
    yield "The weights are float32."


def _make_training_command(manifest: Mapping[str, Any]) -> str:
    """Return the command with the settings of a run that are not the defaults; "" if unknown."""
    config = manifest.get("config")
    if not isinstance(config, Mapping) or not _read_data_name(manifest):
        return ""
    words = ["python", "-m", "valyrian_jax", "train"]
    for setting in list_settings():
        section, name = setting.name.split(".")
        values = config.get(section)
        value = values.get(name, setting.default) if isinstance(values, Mapping) else None
        default = setting.default
        if setting.name == "data.path":  # without its directories, which are those of a machine
            value, default = PurePath(str(value)).name, PurePath(default).name
        if setting.name == "data.mixture":
            value = [PurePath(str(item)).name for item in value] if value else value
        is_default = value is None or json.dumps(value) == json.dumps(default)
        if is_default or section in _SECTIONS_WITHOUT_EFFECT:
            continue
        for item in value if isinstance(value, list) else [value]:
            shown = json.dumps(item) if isinstance(item, bool) else clean_name(str(item))
            words += [f"--{setting.name}", shown]
    return shlex.join(words)
