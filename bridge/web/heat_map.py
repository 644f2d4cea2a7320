"""What each head and each MLP does, for the page: what `inspect --json` has computed for a model.

Computing it takes a minute or more, so the server only reads the file.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from valyrian_jax.bundle.bundle import WEIGHTS_NAME, Bundle
from valyrian_jax.config import ModelConfig
from valyrian_jax.errors import UserError, shorten
from valyrian_jax.files import read_bytes

T = TypeVar("T")

HEADS_NAME = "heads.jsonl"
_MAX_BYTES = 1 << 23
_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
_Rule = Annotated[str, Field(pattern="^[a-z-]{1,40}$")]
_Shares = Annotated[
    dict[_Rule, Annotated[float, Field(ge=0, le=1)]], Field(min_length=1, max_length=100)
]


class HeatMap(NamedTuple):
    """What a model loses without each head and each MLP.

    Attributes:
        rules: Names of R rules.
        components: Names of C heads and MLPs.
        accuracy: Share of right pairs of the whole model [R].
        changes: Change of that share without each component [R][C].
        nats_lost: By how much the mean margin of the pairs falls without it, in nats [R][C].
    """

    rules: list[str]
    components: list[str]
    accuracy: list[float]
    changes: list[list[float]]
    nats_lost: list[list[float]]


@dataclass(frozen=True, config=_STRICT)
class _Whole:
    """The first line of the file: the whole model."""

    weights_sha256: str | None
    accuracy: _Shares


@dataclass(frozen=True, config=_STRICT)
class _Component:
    """A line of a head or an MLP."""

    component: str
    accuracy: _Shares
    nats_lost: dict[_Rule, float]


_WHOLE, _COMPONENT = TypeAdapter(_Whole), TypeAdapter(_Component)


def read_heat_map(directories: Iterable[Path], bundle: Bundle) -> HeatMap | None:
    """Return the heat map of a model from the first directory that has the file heads.jsonl.

    Returns:
        None if no directory has it, or if it describes other weights, such as those of the run
        before it was resumed.

    Raises:
        UserError: The file is damaged or incomplete.
    """
    files = (directory / HEADS_NAME for directory in directories)
    path = next((file for file in files if file.exists()), None)
    if path is None:
        return None
    lines = read_bytes(path, max_bytes=_MAX_BYTES).splitlines()
    whole = _parse_line(_WHOLE, path, lines, 1)
    if whole.weights_sha256 != bundle.manifest.get("sha256", {}).get(WEIGHTS_NAME):
        return None
    rules, components = [*whole.accuracy], list[_Component]()
    for number, name in enumerate(_name_components(bundle.model), 2):
        record = _parse_line(_COMPONENT, path, lines, number)
        if record.component != name:
            found = shorten(record.component)
            raise _make_error(path, f"expected {name} in line {number}, found {found}")
        if not whole.accuracy.keys() == record.accuracy.keys() == record.nats_lost.keys():
            raise _make_error(path, f"expected the rules of line 1 in line {number}, found others")
        components.append(record)
    return HeatMap(
        rules=rules,
        components=[record.component for record in components],
        accuracy=[whole.accuracy[rule] for rule in rules],
        changes=[[c.accuracy[rule] - whole.accuracy[rule] for c in components] for rule in rules],
        nats_lost=[[c.nats_lost[rule] for c in components] for rule in rules],
    )


def _name_components(config: ModelConfig) -> list[str]:
    """Return the names of the heads and MLPs, in the order of `inspect`."""
    layers = range(config.n_layer)
    heads = [f"{layer}.{head}" for layer in layers for head in range(config.n_head)]
    return [*heads, *(f"MLP {layer}" for layer in layers)]


def _parse_line(adapter: TypeAdapter[T], path: Path, lines: Sequence[bytes], number: int) -> T:
    """Return the object in a line; the first line is number 1."""
    try:
        return adapter.validate_json(lines[number - 1])
    except IndexError as error:
        raise _make_error(path, f"line {number} is missing") from error
    except ValidationError as error:
        problem = error.errors()[0]
        key = shorten(".".join(map(str, problem["loc"])))
        reason = f"line {number}: {key and f'{key}: '}{problem['msg']}"
        raise _make_error(path, reason) from error


def _make_error(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} is damaged: {reason}; make it again with `python -m valyrian_jax inspect RUN "
        f"--json > RUN/{HEADS_NAME}`, or remove it"
    )
