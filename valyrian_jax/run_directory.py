"""The run directory: how it is named, found and opened.

runs/<name>/  config.toml  tokenizer.json  metrics.jsonl  samples.txt  loss.png  loss.svg  checkpoints/  bundle/  lock
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from valyrian_jax import config
from valyrian_jax.bundle.bundle import Bundle, load_bundle
from valyrian_jax.config import Config, config_to_toml
from valyrian_jax.errors import UserError
from valyrian_jax.files import write_atomically

RUNS = Path("runs")
_BEFORE_CONFIG = {
    "lock",
    "tokenizer.json",
    "tokenizer.json.partial",
    "checkpoints",
    "config.toml.partial",
}
_Whole = Annotated[int, Field(gt=-(2**53), lt=2**53)]
_RECORD: TypeAdapter[dict[str, Any]] = TypeAdapter(
    dict[str, _Whole | float | list[str] | None], config=ConfigDict(strict=True)
)


def choose_directory(path: Path | None) -> Path:
    """Where a new run will be: at a path, or (None) runs/<date, time and process>.

    Raises:
        UserError: something is there already.
    """
    path = path or RUNS / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{os.getpid()}"
    if (path / "config.toml").exists():
        raise UserError(
            f"{path} already holds a run; resume it with --resume {path} or choose another --out"
        )
    found = {file.name for file in path.iterdir()} if path.is_dir() else set()
    if found - _BEFORE_CONFIG or any(
        path.glob("checkpoints/[1-9]*")
    ):  # less is a start that was killed
        raise UserError(f"{path} is not empty; choose another --out")
    return path


def save_config(run: Path, settings: Config) -> None:
    """Write the resolved configuration of a run. A directory is a run once it has one, so it is written last."""
    write_atomically(run / "config.toml", config_to_toml(settings))


def find_run(path: Path | None) -> Path:
    """The run directory at a path; None: the newest under runs/.

    Raises:
        UserError: there is none.
    """
    if path is None:
        found = sorted(RUNS.glob("*/config.toml"), key=lambda file: (file.stat().st_mtime_ns, file))
        if not found:
            raise UserError(
                f"no run under {RUNS}/; train one with `python train.py` or name a run directory"
            )
        return found[-1].parent
    if not (path / "config.toml").exists():
        raise UserError(f"{path} is not a run directory: it has no config.toml")
    return path


def load_run_config(run: Path) -> Config:
    """The configuration a run was started with."""
    return config.load_config(run / "config.toml")


def find_bundle(path: Path | None) -> Path:
    """The bundle directory of a run (None: the newest), or a bundle directory itself.

    Raises:
        UserError: there is none.
    """
    if path is not None and (path / "model.safetensors").exists():
        return path
    run = find_run(path)
    for name in (
        "bundle",
        "bundle.previous",
    ):  # for a moment, or after a kill in it, there is only the latter
        if (run / name).exists():
            return run / name
    raise UserError(
        f"{run} has no bundle yet: it is written at the first evaluation of `python train.py`"
    )


def load_run_bundle(path: Path | None) -> Bundle:
    """The bundle of a run (None: the newest), or a bundle directory itself."""
    return load_bundle(find_bundle(path))


def read_metrics(run: Path) -> Iterator[dict[str, Any]]:
    """The records of metrics.jsonl; a last line that a crash cut short is left out.

    Raises:
        UserError: another line is no record.
    """
    file = run / "metrics.jsonl"
    content = file.read_bytes() if file.exists() else b""
    lines = content.removesuffix(b"\n").split(
        b"\n"
    )  # only there: a text may hold what Unicode calls the end of a line
    for number, line in enumerate(lines, 1):
        try:
            record = _RECORD.validate_json(line)
        except ValidationError:
            record = {}
        if isinstance(record.get("step"), int) and all(
            isinstance(value, list) == (name == "samples") for name, value in record.items()
        ):
            yield record
        elif number < len(lines):
            raise UserError(
                f"{file}, line {number} is damaged: expected a JSON object with a step; remove the line"
            )


def format_samples(step: int, texts: list[str]) -> str:
    """What samples.txt says of a step."""
    return f"=== step {step}\n" + "".join(f"{text}\n---\n" for text in texts)


def truncate_logs(run: Path, step: int) -> None:
    """Drop metrics and samples of later steps, which a resumed run will write again."""
    kept = [record for record in read_metrics(run) if record["step"] <= step]
    write_atomically(
        run / "metrics.jsonl",
        "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept),
    )
    sections = (
        format_samples(record["step"], record["samples"]) for record in kept if "samples" in record
    )
    write_atomically(run / "samples.txt", "".join(sections))
