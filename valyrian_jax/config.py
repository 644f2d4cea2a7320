"""Everything a run depends on, as frozen dataclasses read from TOML and command-line overrides.

Nothing has a hidden default: a resolved `Config` written with `to_toml` and read again is the same run.
"""

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from valyrian_jax.errors import UserError
from valyrian_jax.files import read_text

_STRICT = ConfigDict(
    extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
)

_LARGEST = (
    1 << 15
)  # bytes of TOML: tomllib's time for a key grows with the square of its dots, to seconds here

Count = Annotated[int, Field(ge=1, lt=2**31)]
CountOrZero = Annotated[int, Field(ge=0, lt=2**31)]
AxisSize = Annotated[int, Field(ge=-1, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
PathString = Annotated[str, Field(pattern=r"^[^\x00]*$")]  # no file has a NUL in its name


@dataclass(frozen=True, config=_STRICT)
class DataConfig:
    """Where the text comes from and how it is split."""

    path: PathString = "data/High Valyrian.txt"
    """A UTF-8 text file, blank lines between documents, or a directory from tokenizer encode --out."""
    held_out: Share = 0.05
    """Share of the text, at its end and in whole documents, that training never sees."""
    tokenizer: PathString = ""
    """A tokenizer.json to use; empty: that of the shards, or one trained on the training part."""


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """A GPT-2 shape; the names are those of GPT-2's configuration."""

    vocab_size: Annotated[int, Field(ge=257)] = 500
    """Tokens: 256 bytes, merges, and <|endoftext|>."""
    n_positions: Annotated[int, Field(ge=2)] = 64
    """Context length in tokens."""
    n_embd: Count = 128
    """Width of the embedding."""
    n_layer: Annotated[int, Field(ge=1, le=1024)] = 4
    """Number of blocks."""
    n_head: Count = 4
    """Attention heads a block; must divide n_embd."""
    activation: Literal["gelu", "gelu_new"] = "gelu_new"
    """GELU in the MLP: gelu is exact (erf), gelu_new the tanh form of GPT-2."""
    layer_norm_epsilon: Positive = 1e-5
    """Added to the variance in every LayerNorm."""
    tie_word_embeddings: bool = False
    """Use the token embedding as the head."""
    dropout: Annotated[float, Field(ge=0, le=0.99)] = 0.0
    """Dropout on embeddings, attention weights and residual branches, while training."""
    init_std: Positive = 0.05
    """Standard deviation of the initial weights; of residual projections over sqrt(2 n_layer), of wte times 4."""
    vocab_multiple: Count = 1
    """Token tables get rows up to a multiple of this, for speed and for meshes; never in a bundle."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "ModelConfig":
        if self.n_embd % self.n_head:
            raise ValueError(
                f"model.n_head = {self.n_head} must divide model.n_embd = {self.n_embd}"
            )
        return self


@dataclass(frozen=True, config=_STRICT)
class OptimConfig:
    """The update rule and its schedule: linear warm-up, then a cosine down."""

    name: Literal["adamw", "adam_l2", "muon"] = "adamw"
    """adamw: decoupled decay; adam_l2: decay added to the gradient; muon: Muon in the blocks, AdamW elsewhere."""
    lr: Positive = 3.5e-3
    """Peak learning rate."""
    min_lr_ratio: Fraction = 0.01
    """Learning rate at the last step, as a share of lr."""
    warmup: Fraction = 0.03
    """Share of the steps over which the learning rate rises from 0 to lr."""
    weight_decay: NotNegative = 0.1
    """Decay of weight matrices and embeddings; biases and LayerNorm are never decayed."""
    beta1: Fraction = 0.9
    """Adam's first-moment decay."""
    beta2: Fraction = 0.99
    """Adam's second-moment decay."""
    nesterov: bool = True
    """Momentum that looks one step ahead (NAdam)."""
    clip_norm: Positive = 1.0
    """Largest global norm of a gradient."""


@dataclass(frozen=True, config=_STRICT)
class TrainConfig:
    """How long, how much at a time, and what happens along the way."""

    steps: Count = 4800
    """Optimizer steps."""
    batch_size: Count = 16
    """Windows of n_positions tokens a step."""
    seed: Seed = 0
    """Seed of initial weights, batches and dropout."""
    steps_per_dispatch: Count = 10
    """Steps that run on the device without coming back to Python."""
    eval_every: Count = 800
    """Steps between evaluations on the whole held-out part."""
    patience: CountOrZero = 5
    """Evaluations without a better held-out loss before training stops; 0: never stop early."""
    sample_every: CountOrZero = 1600
    """Steps between samples; 0: none."""
    checkpoint_every: Count = 800
    """Steps between checkpoints of the whole state."""
    max_skipped: CountOrZero = 0
    """Steps in the whole run that are left out because loss, gradient or update is not finite; one more ends it."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """gpu is an error where JAX sees none; auto takes a GPU if there is one."""
    deterministic: bool = False
    """Only GPU kernels that give the same bits every time; on a CPU all do."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of activations and products in training; parameters, optimizer, norms, softmax and losses stay float32."""
    accumulate: Count = 1
    """Parts that a batch is computed in, one after another, to save memory; must divide batch_size."""
    scan_layers: bool = False
    """Compile one block and run it for every layer; compiles sooner, for deep models."""
    remat: bool = False
    """Compute every block a second time for the gradient instead of keeping it, to save memory."""
    attention: Literal["auto", "own", "xla", "cudnn"] = "auto"
    """What computes attention in training: own code, XLA, or cuDNN's kernel, which auto takes where it can."""

    @model_validator(mode="after")
    def _parts_divide_batch(self) -> "TrainConfig":
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"train.accumulate = {self.accumulate} must divide train.batch_size = {self.batch_size}"
            )
        return self

    @model_validator(mode="after")
    def _whole_dispatches(self) -> "TrainConfig":
        for name in ("eval_every", "sample_every", "checkpoint_every"):
            if getattr(self, name) % self.steps_per_dispatch:
                raise ValueError(
                    f"train.{name} = {getattr(self, name)} must be a multiple of "
                    f"train.steps_per_dispatch = {self.steps_per_dispatch}"
                )
        return self


@dataclass(frozen=True, config=_STRICT)
class MeshConfig:
    """How devices are arranged: data x fsdp x tensor is their number, and at most one of the three is -1, the rest."""

    data: AxisSize = -1
    """Groups of devices that hold all parameters and compute some rows of the batch."""
    fsdp: AxisSize = 1
    """Devices that compute some rows too, but share parameters, gradients and optimizer state among them."""
    tensor: AxisSize = 1
    """Devices that share every product of matrices."""

    @model_validator(mode="after")
    def _one_rest(self) -> "MeshConfig":
        sizes = (self.data, self.fsdp, self.tensor)
        if 0 in sizes or sizes.count(-1) > 1:
            asked = f"mesh.data, mesh.fsdp, mesh.tensor = {sizes}"
            raise ValueError(
                f"{asked}: each must be at least 1, but that one may be -1, for what is left"
            )
        return self


@dataclass(frozen=True, config=_STRICT)
class SampleConfig:
    """How text is drawn; the sampler contract is in `valyrian_jax.generation.sampler`."""

    prompt: str = ""
    """Text to go on from; empty: the beginning of a document."""
    max_new_tokens: Count = 100
    """Tokens to generate at most."""
    temperature: NotNegative = 0.8
    """Divides the logits, at least 0.001; 0: always the most probable token."""
    top_k: CountOrZero = 0
    """Only the k most probable tokens; 0: all."""
    top_p: Positive = 0.95
    """Only the most probable tokens that together reach p; 1: all."""
    seed: Seed = 0
    """The same seed gives the same text."""

    @model_validator(mode="after")
    def _temperature_is_usable(self) -> "SampleConfig":
        if 0 < self.temperature < 1e-3:
            raise ValueError(f"sample.temperature = {self.temperature} must be 0 or at least 0.001")
        return self


@dataclass(frozen=True, config=_STRICT)
class WandbConfig:
    """Logging to Weights & Biases, beside metrics.jsonl."""

    mode: Literal["auto", "online", "offline", "off"] = "auto"
    """auto: online when this machine is logged in, else off."""
    project: str = "valyrian-gpt"
    """Project that runs are filed under."""


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
    """Every setting of a Config, in order."""
    defaults = Config()
    for section in dataclasses.fields(defaults):
        values = getattr(defaults, section.name)
        for name, field in type(values).__pydantic_fields__.items():
            yield Setting(
                f"{section.name}.{name}", field.annotation, getattr(values, name), field.description
            )


def load_config(
    path: str | Path | None = None, overrides: Mapping[str, Any] | None = None
) -> Config:
    """Read a configuration.

    Args:
        path: a TOML file; None: all defaults.
        overrides: dotted key -> value, which win over the file.

    Returns:
        The resolved configuration.

    Raises:
        UserError: the file cannot be read, or a key or value is wrong; the message names key, value and remedy.
    """
    tree = _read_toml(Path(path)) if path is not None else {}
    return config_from_tree(
        tree, overrides or {}, source=str(path) if path is not None else "configuration"
    )


def config_from_tree(
    tree: Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    source: str = "configuration",
) -> Config:
    """A nested mapping to a checked Config; see `load`."""
    merged: dict[str, dict[str, Any]] = {}
    try:
        for name, value in tree.items():
            if not isinstance(value, Mapping):
                raise UserError(
                    f"{source}: {name} = {value!r} stands outside a section; {_hint(name)}"
                )
            merged[name] = dict(value)
        for dotted, value in (overrides or {}).items():
            section, _, name = dotted.partition(".")
            merged.setdefault(section, {})[name] = value
        # As JSON, because there strict types still let a mapping become a dataclass.
        return TypeAdapter(Config).validate_json(json.dumps(merged))
    except ValidationError as error:
        raise UserError(f"{source}: {explain_error(error)}") from error
    except (
        TypeError,
        ValueError,
        RecursionError,
    ) as error:  # a date, a number too long to write, a nest too deep
        raise UserError(
            f"{source}: a value is neither text, number nor true or false: {error}"
        ) from error


def config_to_tree(config: Config) -> dict[str, dict[str, Any]]:
    """The configuration as nested plain values."""
    return dataclasses.asdict(config)


def config_to_toml(config: Config) -> str:
    """The configuration as TOML text that `load` reads back to the same value."""
    return "\n".join(
        f"[{section}]\n"
        + "".join(f"{name} = {_toml_value(value)}\n" for name, value in values.items())
        for section, values in config_to_tree(config).items()
    )


def _toml_value(value: str | float | bool) -> str:
    """Strings, numbers and booleans are written in TOML as in JSON, but for one control character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _read_toml(path: Path) -> dict[str, Any]:
    content = read_text(path, "the configuration", _LARGEST)
    try:
        return tomllib.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error


def explain_error(error: ValidationError) -> str:
    """The first problem of a validation, in one line: key, value, what was expected."""
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "unexpected_keyword_argument":
        return f"unknown key {key} = {problem['input']!r}; {_hint(key)}"
    if (
        problem["type"] == "value_error"
    ):  # one of the cross-field checks above, which names its keys
        return str(problem["ctx"]["error"])
    return f"{key} = {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _hint(wrong: str) -> str:
    """The nearest right spelling of a key, given whole or without its section."""
    known = [key.name for key in list_settings()]
    names = {**{name.partition(".")[2]: name for name in known}, **{name: name for name in known}}
    names |= {section.name: section.name for section in dataclasses.fields(Config)}
    near = difflib.get_close_matches(wrong, names, n=1)
    return f"did you mean {names[near[0]]}?" if near else "`python train.py --help` lists all keys"
