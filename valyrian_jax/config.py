"""Everything a run depends on: frozen dataclasses, read from TOML and command-line overrides.

No default is hidden: a `Config` written with `config_to_toml` and read again gives the same run.
The docstring of a field is the help text of its option.
"""

import dataclasses
import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass

from valyrian_jax.errors import UserError
from valyrian_jax.files import find_input, read_input

_STRICT = ConfigDict(
    extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
)
# Bytes of TOML. The time of tomllib for a key is quadratic in its dots: seconds at this size.
_MAX_BYTES = 1 << 15

Count = Annotated[int, Field(ge=1, lt=2**31)]
CountOrZero = Annotated[int, Field(ge=0, lt=2**31)]
AxisSize = Annotated[int, Field(ge=-1, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
BLANK_LINE = "blank line"  # the separator of documents unless one is set
REGULAR_EXPRESSION = "re:"  # how a separator begins that is one


def check_separator(separator: str) -> str:
    """Return a separator of documents.

    Raises:
        ValueError: It is empty, or is no regular expression, or one that matches everywhere.
    """
    if not separator:
        raise ValueError(f"the separator is empty; expected {BLANK_LINE!r}, a string or re:PATTERN")
    if separator.startswith(REGULAR_EXPRESSION):
        try:
            matches_all = re.compile(separator.removeprefix(REGULAR_EXPRESSION)).match("")
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(
                f"the separator {separator!r} is not a regular expression: {error}; correct it, or "
                "leave out re: to separate at that very string"
            ) from error
        if matches_all:
            raise ValueError(
                f"the separator {separator!r} matches between all characters; write a pattern that "
                "needs at least one"
            )
    return separator


Separator = Annotated[str, AfterValidator(check_separator)]
PathString = Annotated[str, Field(pattern=r"^[^\x00]*$")]  # no file name has a NUL


@dataclass(frozen=True, config=_STRICT)
class DataConfig:
    """The text and its split."""

    path: PathString = "data/High Valyrian.txt"
    """A text (plain, JSON or Parquet; also gzip or zstd), or shards from tokenizer encode --out."""
    separator: Separator = BLANK_LINE
    """What separates the documents of plain text: blank line, any string, or re:PATTERN."""
    text_key: str = "text"
    """Key of the text in JSON, or its column in Parquet; empty: JSON is plain text."""
    held_out: Share = 0.05
    """Share of the text to hold out from training: its end, in whole documents if they allow it."""
    tokenizer: PathString = ""
    """A tokenizer.json; empty: that of the shards, or a new one trained on the training part."""


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """The shape of the model, with the names of GPT-2's configuration."""

    vocab_size: Annotated[int, Field(ge=257)] = 500
    """Number of tokens: 256 bytes, the merges and <|endoftext|>."""
    n_positions: Annotated[int, Field(ge=2)] = 64
    """Context length in tokens."""
    n_embd: Count = 128
    """Width of the embedding."""
    n_layer: Annotated[int, Field(ge=1, le=1024)] = 4
    """Number of blocks."""
    n_head: Count = 4
    """Attention heads in each block; must divide n_embd."""
    activation: Literal["gelu", "gelu_new"] = "gelu_new"
    """GELU of the MLP: gelu is exact (erf), gelu_new is GPT-2's tanh approximation."""
    layer_norm_epsilon: Positive = 1e-5
    """Added to the variance in every LayerNorm."""
    tie_word_embeddings: bool = False
    """Use the token embedding as the head."""
    dropout: Annotated[float, Field(ge=0, le=0.99)] = 0.0
    """Dropout on embeddings, attention weights and residual branches during training."""
    init_std: Positive = 0.05
    """Standard deviation of initial weights (residual projections / sqrt(2 n_layer), wte x 4)."""
    vocab_multiple: Count = 1
    """Pad token tables to a multiple of this, for speed and for meshes; bundles are not padded."""

    @model_validator(mode="after")
    def _check_heads(self) -> "ModelConfig":
        if self.n_embd % self.n_head:
            raise ValueError(
                f"model.n_head = {self.n_head} must divide model.n_embd = {self.n_embd}"
            )
        return self


@dataclass(frozen=True, config=_STRICT)
class OptimConfig:
    """The optimizer and its schedule: linear warm-up, then cosine decay."""

    name: Literal["adamw", "adam_l2", "muon"] = "adamw"
    """adamw; adam_l2: decay added to the gradient; muon: Muon in the blocks, AdamW elsewhere."""
    lr: Positive = 3.5e-3
    """Peak learning rate."""
    min_lr_ratio: Fraction = 0.01
    """Learning rate of the last step, as a share of lr."""
    warmup: Fraction = 0.03
    """Share of the steps in which the learning rate rises to lr."""
    weight_decay: NotNegative = 0.1
    """Weight decay of matrices and embeddings; biases and LayerNorm have none."""
    beta1: Fraction = 0.9
    """Decay of Adam's first moment."""
    beta2: Fraction = 0.99
    """Decay of Adam's second moment."""
    nesterov: bool = True
    """Use Nesterov momentum; in Adam, that is NAdam."""
    clip_norm: Positive = 1.0
    """Clip gradients to this global norm."""


@dataclass(frozen=True, config=_STRICT)
class TrainConfig:
    """The length of training, its batches, evaluations and checkpoints, and how it computes."""

    steps: Count = 4800
    """Optimizer steps."""
    batch_size: Count = 16
    """Windows of n_positions tokens in each step."""
    seed: Seed = 0
    """Seed of initial weights, batches and dropout."""
    steps_per_dispatch: Count = 10
    """Steps in each dispatch, one call of the compiled training function."""
    eval_every: Count = 800
    """Steps between evaluations of the whole held-out part."""
    patience: CountOrZero = 5
    """Evaluations without a lower held-out loss before training stops; 0: never stop early."""
    sample_every: CountOrZero = 1600
    """Steps between samples; 0: none."""
    checkpoint_every: Count = 800
    """Steps between checkpoints."""
    max_skipped: CountOrZero = 0
    """Steps with a non-finite loss, gradient or update to skip in a run; one more ends it."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """gpu fails if JAX finds none; auto uses a GPU if JAX finds one."""
    deterministic: bool = False
    """Use only GPU kernels that give the same bits every time; all CPU kernels do."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of activations and matrix products in training; everything else stays float32."""
    accumulate: Count = 1
    """Split each batch into this many parts to save memory; must divide batch_size."""
    scan_layers: bool = False
    """Compile one block and reuse it for every layer; deep models compile faster."""
    remat: bool = False
    """Recompute each block for the gradient (rematerialisation), to save memory."""
    attention: Literal["auto", "own", "xla", "cudnn"] = "auto"
    """Attention in training; own is this project's code; auto picks cudnn where it works."""

    @model_validator(mode="after")
    def _check_divisors(self) -> "TrainConfig":
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"train.accumulate = {self.accumulate} must divide "
                f"train.batch_size = {self.batch_size}"
            )
        for name in ("eval_every", "sample_every", "checkpoint_every"):
            if getattr(self, name) % self.steps_per_dispatch:
                raise ValueError(
                    f"train.{name} = {getattr(self, name)} must be a multiple of "
                    f"train.steps_per_dispatch = {self.steps_per_dispatch}"
                )
        return self


@dataclass(frozen=True, config=_STRICT)
class MeshConfig:
    """The device mesh: data x fsdp x tensor devices; one size may be -1, for the remaining ones."""

    data: AxisSize = -1
    """Groups of devices, each with all parameters and some rows; -1: all remaining devices."""
    fsdp: AxisSize = 1
    """Devices that share parameters, gradients and optimizer state; each computes some rows."""
    tensor: AxisSize = 1
    """Devices that share every matrix product."""

    @model_validator(mode="after")
    def _check_sizes(self) -> "MeshConfig":
        sizes = (self.data, self.fsdp, self.tensor)
        if 0 in sizes or sizes.count(-1) > 1:
            raise ValueError(
                f"mesh.data, mesh.fsdp, mesh.tensor = {sizes}: each must be at least 1; one may be "
                "-1, for the remaining devices"
            )
        return self


@dataclass(frozen=True, config=_STRICT)
class SampleConfig:
    """Sampling settings; `valyrian_jax.generation.sampler` defines the sampler."""

    prompt: str = ""
    """Text to continue; empty: start a new document."""
    max_new_tokens: Count = 100
    """Largest number of tokens to generate."""
    temperature: NotNegative = 0.8
    """Divisor of the logits, at least 0.001; 0: always take the most probable token."""
    top_k: CountOrZero = 0
    """Sample from the k most probable tokens; 0: all."""
    top_p: Positive = 0.95
    """Sample from the most probable tokens that together reach p; 1: all."""
    seed: Seed = 0
    """The same seed gives the same text."""

    @model_validator(mode="after")
    def _check_temperature(self) -> "SampleConfig":
        if 0 < self.temperature < 1e-3:
            raise ValueError(f"sample.temperature = {self.temperature} must be 0 or at least 0.001")
        return self


@dataclass(frozen=True, config=_STRICT)
class WandbConfig:
    """Logging to Weights & Biases, in addition to metrics.jsonl."""

    mode: Literal["auto", "online", "offline", "off"] = "auto"
    """auto: online if this machine is logged in, else off."""
    project: str = "valyrian-gpt"
    """Weights & Biases project of the run."""


@dataclass(frozen=True, config=_STRICT)
class Config:
    """A whole run."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    sample: SampleConfig = dataclasses.field(default_factory=SampleConfig)
    wandb: WandbConfig = dataclasses.field(default_factory=WandbConfig)


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting: its dotted name, type, default and description."""

    name: str
    type: Any
    default: Any
    description: str


def list_settings() -> Iterator[Setting]:
    """Yield every setting of a `Config`, in order."""
    defaults = Config()
    for section in dataclasses.fields(defaults):
        values = getattr(defaults, section.name)
        for name, field in type(values).__pydantic_fields__.items():
            dotted = f"{section.name}.{name}"
            yield Setting(dotted, field.annotation, getattr(values, name), field.description)


def load_config(
    path: str | Path | None = None, overrides: Mapping[str, Any] | None = None
) -> Config:
    """Read a configuration and find its files.

    A relative path of the text or the tokenizer is looked up in the working directory, then in the
    directory of the configuration file. The presets and the corpus are found anywhere.

    Args:
        path: A TOML file; None for the defaults.
        overrides: Dotted key -> value; they take precedence over the file.

    Returns:
        The resolved configuration.

    Raises:
        UserError: The file cannot be read, or a key or value is wrong.
    """
    path = path and find_input(path)
    config = read_config(path, overrides) if path else config_from_tree({}, overrides)
    directories = [Path(path).parent] if path else []
    data = dataclasses.replace(
        config.data,
        path=find_input(config.data.path, *directories),
        tokenizer=config.data.tokenizer and find_input(config.data.tokenizer, *directories),
    )
    return dataclasses.replace(config, data=data)


def read_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a configuration as it was written.

    Args:
        path: A TOML file.
        overrides: Dotted key -> value; they take precedence over the file.

    Raises:
        UserError: The file cannot be read, or a key or value is wrong.
    """
    content = read_input(path, "the configuration", _MAX_BYTES)
    try:
        tree = tomllib.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error
    return config_from_tree(tree, overrides, source=str(path))


def config_from_tree(
    tree: Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    source: str = "configuration",
) -> Config:
    """Return the checked `Config` of a nested mapping.

    Args:
        tree: Section -> key -> value.
        overrides: Dotted key -> value; they take precedence over the tree.
        source: Where the tree comes from, for messages.

    Raises:
        UserError: A key or value is wrong.
    """
    sections: dict[str, dict[str, Any]] = {}
    try:
        for name, value in tree.items():
            if not isinstance(value, Mapping):
                raise UserError(
                    f"{source}: {name} = {_quote(value)} is outside a section; {_suggest_key(name)}"
                )
            sections[name] = dict(value)
        for dotted, value in (overrides or {}).items():
            section, _, name = dotted.partition(".")
            sections.setdefault(section, {})[name] = value
        for section, values in sections.items():
            for name, value in values.items():
                _check_unicode(f"{section}.{name} = {value}", source)
        # As JSON, because only there strict types let a mapping become a dataclass.
        content = json.dumps(sections, ensure_ascii=False).encode()
        return TypeAdapter(Config).validate_json(content)
    except ValidationError as error:
        raise UserError(f"{source}: {explain_error(error)}") from error
    except (TypeError, ValueError, RecursionError) as error:  # a date, a huge number, deep nesting
        raise UserError(
            f"{source}: expected text, numbers, true or false as values: {error}"
        ) from error


def _check_unicode(setting: str, source: str) -> None:
    """Check the text of a setting; an escape in JSON can be a lone surrogate."""
    try:
        setting.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{source}: {setting!r} is not valid Unicode: it has a lone surrogate; remove it"
        ) from error


def config_to_tree(config: Config) -> dict[str, dict[str, Any]]:
    """Return the configuration as nested plain values."""
    return dataclasses.asdict(config)


def config_to_toml(config: Config) -> str:
    """Return the configuration as TOML; `load_config` reads the same value back."""
    return "\n".join(
        f"[{section}]\n"
        + "".join(f"{name} = {_format_value(value)}\n" for name, value in values.items())
        for section, values in config_to_tree(config).items()
    )


def _format_value(value: str | float | bool) -> str:
    """Return a value as TOML, which differs from JSON in one control character only."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def explain_error(error: ValidationError) -> str:
    """Return the first problem of a validation in one line: key, value, what was expected."""
    problem = error.errors()[0]
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] == "unexpected_keyword_argument":
        return f"unknown key {key} = {_quote(problem['input'])}; {_suggest_key(key)}"
    if problem["type"] == "value_error":  # a check across fields, which names its keys
        return str(problem["ctx"]["error"])
    return f"{key} = {_quote(problem['input'])}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _quote(value: Any) -> str:
    """Return a value for a message: null, true and false as in JSON and TOML."""
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)


def _suggest_key(wrong: str) -> str:
    """Suggest the nearest key for one that does not exist, with or without its section."""
    keys = [setting.name for setting in list_settings()]
    names = {key.partition(".")[2]: key for key in keys} | {key: key for key in keys}
    names |= {section.name: section.name for section in dataclasses.fields(Config)}
    nearest = difflib.get_close_matches(wrong, names, n=1)
    return f"did you mean {names[nearest[0]]}?" if nearest else "see `python train.py --help`"
