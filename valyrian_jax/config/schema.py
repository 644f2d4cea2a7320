"""Everything a run depends on, as frozen dataclasses.

The docstring of a field is the help text of its option.
"""

import dataclasses
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

_STRICT = ConfigDict(
    extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
)

Count = Annotated[int, Field(ge=1, lt=2**31)]
CountOrZero = Annotated[int, Field(ge=0, lt=2**31)]
AxisSize = Annotated[int, Field(ge=-1, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
BLANK_LINE = "blank line"  # the separator of documents unless one is set
MAX_DRAWS = 20  # of one sentence of a grammatical text; if none is right, the last one stays
REGULAR_EXPRESSION = "re:"  # prefix of a separator that is a regular expression


def check_separator(separator: str) -> str:
    """Return a separator of documents, after checking it."""
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


def check_stop(stop: tuple[str, ...]) -> tuple[str, ...]:
    """Return the stop strings of a text, after checking them."""
    if "" in stop:
        raise PydanticCustomError(
            "empty_stop", "expected strings of at least one character; leave out the empty string"
        )
    return stop


def check_mixture(mixture: tuple[str, ...]) -> tuple[str, ...]:
    """Return the entries of a mixture of shards, after checking them."""
    for entry in mixture:
        name, _, weight = entry.rpartition("=")
        is_number = re.fullmatch(r"\d+(\.\d+)?(e-?\d{1,2})?", weight) is not None
        if not name or "\0" in name or not is_number or not float(weight):
            raise PydanticCustomError(
                "mixture", "expected DIRECTORY=WEIGHT with a weight above 0, such as books=0.5"
            )
    return mixture


def check_temperature(temperature: float) -> float:
    """Return a temperature, after checking that logits divided by it do not overflow."""
    if 0 < temperature < 1e-3:
        raise PydanticCustomError("low_temperature", "must be 0 or at least 0.001")
    return temperature


def _make_tuple(value: object) -> object:
    """Return one string, or a list of them from TOML or JSON, as a tuple."""
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, str) else value


Separator = Annotated[str, AfterValidator(check_separator)]
StopStrings = Annotated[tuple[str, ...], BeforeValidator(_make_tuple), AfterValidator(check_stop)]
Temperature = Annotated[NotNegative, AfterValidator(check_temperature)]
PathString = Annotated[str, Field(pattern=r"^[^\x00]*$")]  # no file name has a NUL
Mixture = Annotated[tuple[str, ...], BeforeValidator(_make_tuple), AfterValidator(check_mixture)]


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
    mixture: Mixture = ()
    """Shards to mix in, as DIRECTORY=WEIGHT; data.path has weight 1. Can be repeated."""
    tokenizer: PathString = ""
    """A tokenizer.json; empty: that of the shards, or a new one trained on the training part."""


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """The shape of the model, with the names of GPT-2's configuration."""

    vocab_size: Annotated[int, Field(ge=257)] = 500
    """Number of tokens: 256 bytes, the merges and <|endoftext|>."""
    n_positions: Annotated[int, Field(ge=2)] = 64
    """Context length in tokens."""
    n_embd: Count = 96
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
    """Use the token embedding as the output matrix."""
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
                f"model.n_head = {self.n_head} must divide model.n_embd = {self.n_embd}; change "
                "one of them"
            )
        return self


@dataclass(frozen=True, config=_STRICT)
class OptimConfig:
    """The optimizer and its schedule: linear warm-up, then cosine decay."""

    name: Literal["adamw", "adam_l2", "muon"] = "adamw"
    """adamw; adam_l2: decay added to the gradient; muon: Muon in the blocks, AdamW elsewhere."""
    lr: Positive = 5e-3
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

    steps: Count = 6400
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
    pairs: CountOrZero = 0
    """Minimal pairs of each rule of the grammar to test at every evaluation; 0: none."""
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
                f"train.batch_size = {self.batch_size}; change one of them"
            )
        for name in ("eval_every", "sample_every", "checkpoint_every"):
            if getattr(self, name) % self.steps_per_dispatch:
                raise ValueError(
                    f"train.{name} = {getattr(self, name)} must be a multiple of "
                    f"train.steps_per_dispatch = {self.steps_per_dispatch}; change one of them"
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
    temperature: Temperature = 0.8
    """Divisor of the logits, at least 0.001; 0: always take the most probable token."""
    top_k: CountOrZero = 0
    """Sample from the k most probable tokens; 0: all."""
    top_p: Positive = 0.95
    """Sample from the most probable tokens that together reach p; 1: all."""
    seed: Seed = 0
    """The same seed gives the same text."""
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Leave out tokens less probable than this share of the most probable one; 0: none."""
    repetition_penalty: Annotated[float, Field(ge=1e-3, le=1e3)] = 1.0
    """Divides positive logits of tokens in the window, multiplies negative ones; 1: off."""
    min_new_tokens: CountOrZero = 0
    """A text does not end at <|endoftext|> before this number of new tokens."""
    stop: StopStrings = ()
    """String before which a text ends; can be repeated."""


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
