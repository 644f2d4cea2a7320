"""The run directory: how it is named, found and opened.

runs/<name>/  config.toml  tokenizer.json  metrics.jsonl  samples.txt  loss.png  checkpoints/  bundle/
"""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from valyrian_jax import bundle, config
from valyrian_jax.bundle import Bundle
from valyrian_jax.config import Config
from valyrian_jax.errors import UserError
from valyrian_jax.tokenizer import Tokenizer

RUNS = Path("runs")
_SAMPLES_HEADER = re.compile(r"^=== step (\d+)\n", re.MULTILINE)


def choose(path: Path | None) -> Path:
    """Where a new run will be: at a path, or (None) runs/<date and time>.

    Raises:
        UserError: there is a run already.
    """
    path = path or RUNS / time.strftime("%Y-%m-%d_%H-%M-%S")
    if (path / "config.toml").exists():
        raise UserError(f"{path} already holds a run; resume it with --resume {path} or choose another --out")
    return path


def create(run: Path, settings: Config, tokenizer: Tokenizer) -> None:
    """Make a run directory with its configuration and tokenizer.

    Raises:
        UserError: the place cannot be written.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        tokenizer.save(run / "tokenizer.json")
        (run / "config.toml").write_text(config.to_toml(settings), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write the run directory {run}: {error.strerror}; choose another with --out") from error


def find(path: Path | None) -> Path:
    """The run directory at a path; None: the newest under runs/.

    Raises:
        UserError: there is none.
    """
    if path is None:
        found = sorted(RUNS.glob("*/config.toml"), key=lambda file: (file.stat().st_mtime_ns, file))
        if not found:
            raise UserError(f"no run under {RUNS}/; train one with `python train.py` or name a run directory")
        return found[-1].parent
    if not (path / "config.toml").exists():
        raise UserError(f"{path} is not a run directory: it has no config.toml")
    return path


def load_config(run: Path) -> Config:
    """The configuration a run was started with."""
    return config.load(run / "config.toml")


def load_bundle(path: Path | None) -> Bundle:
    """The bundle of a run (None: the newest), or a bundle directory itself."""
    if path is not None and (path / "model.safetensors").exists():
        return bundle.load(path)
    run = find(path)
    if not (run / "bundle").exists():
        raise UserError(f"{run} has no bundle yet: it is written at the first evaluation of `python train.py`")
    return bundle.load(run / "bundle")


def read_metrics(run: Path) -> Iterator[dict[str, Any]]:
    """The records of metrics.jsonl; a last line that a crash cut short is left out."""
    file = run / "metrics.jsonl"
    if not file.exists():
        raise UserError(f"{run} has no metrics.jsonl: nothing was logged yet")
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return


def forget_after(run: Path, step: int) -> None:
    """Drop metrics and samples of later steps, which a resumed run will write again."""
    if (run / "metrics.jsonl").exists():
        kept = [record for record in read_metrics(run) if record["step"] <= step]
        _rewrite(run / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in kept))
    if (run / "samples.txt").exists():
        sections = _SAMPLES_HEADER.split((run / "samples.txt").read_text(encoding="utf-8"))[1:]  # step, text, step, ...
        kept_texts = [
            f"=== step {n}\n{text}" for n, text in zip(sections[::2], sections[1::2], strict=True) if int(n) <= step
        ]
        _rewrite(run / "samples.txt", "".join(kept_texts))


def _rewrite(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
