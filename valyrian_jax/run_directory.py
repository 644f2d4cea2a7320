"""The run directory: its name, its files and its logs.

runs/<name>/  config.toml  tokenizer.json  metrics.jsonl  samples.txt  loss.png  loss.svg
              checkpoints/  bundle/  lock
"""

import contextlib
import difflib
import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from valyrian_jax.bundle.bundle import Bundle, find_previous, load_bundle
from valyrian_jax.bundle.foreign_directory import check_is_bundle, holds_weights
from valyrian_jax.bundle.shipped_model import (
    SHIPPED_HINT,
    SHIPPED_MODEL,
    SHIPPED_RUN,
    name_model,
)
from valyrian_jax.config import (
    Config,
    PathLike,
    check_input,
    config_to_toml,
    find_text,
    read_config,
)
from valyrian_jax.errors import UserError, escape, shorten
from valyrian_jax.files import (
    check_regular,
    is_temporary,
    read_lines,
    remove_temporaries,
    replace_file,
    write_atomically,
)

RUNS = Path("runs")
# A start that is killed before it writes config.toml may leave these; a new run may replace them.
_FILES_BEFORE_CONFIG = {"lock", "tokenizer.json", "checkpoints"}
_OWN_FILES = "config.toml", "tokenizer.json", "metrics.jsonl", "samples.txt"
_SHOWN_NAMES = 3
_MISSING = errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG
_Integer = Annotated[int, Field(gt=-(2**53), lt=2**53)]
_RECORD: TypeAdapter[dict[str, Any]] = TypeAdapter(
    dict[str, _Integer | float | list[str] | None], config=ConfigDict(strict=True)
)


def choose_directory(path: Path | None) -> Path:
    """Return the directory of a new run: `path`, or runs/<date, time and process> if it is None."""
    path = path or RUNS / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{os.getpid()}"
    if (path / "config.toml").exists():
        raise UserError(
            f"{path} already holds a run; resume it with --resume {path} or choose another --out"
        )
    files = [
        file
        for file in (path.iterdir() if path.is_dir() else ())
        if not is_temporary(file.name) and not _is_log(file)
    ]
    names = sorted({file.name for file in files} - _FILES_BEFORE_CONFIG)
    checkpoints = path / "checkpoints"
    has_steps = checkpoints.is_dir() and any(
        file.name[:1] in "123456789" for file in checkpoints.iterdir()
    )
    if names or has_steps:
        shown = ", ".join(names[:_SHOWN_NAMES]) or "checkpoints"
        more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
        raise UserError(
            f"cannot start a run in {path}: expected a new or empty directory, found {shown}{more};"
            " choose another --out"
        )
    return path


def _is_log(file: Path) -> bool:
    """Return whether a file is the log of a job, which can begin before its run."""
    is_named_log = file.suffix in (".log", ".out", ".err") or file.stem == "log"
    return is_named_log and file.is_file()


def save_config(run: Path, config: Config) -> None:
    """Write config.toml. A new run writes it after checkpoint 0: it makes the directory a run."""
    write_atomically(run / "config.toml", config_to_toml(config))


def remove_leftovers(run: Path) -> None:
    """Remove the temporary files that a killed process has left; the caller has locked the run."""
    remove_temporaries(*(run / name for name in _OWN_FILES))


@contextlib.contextmanager
def watch_directory(run: Path) -> Iterator[Callable[[], None]]:
    """Yield a check that a run directory is not deleted, moved or replaced meanwhile.

    The open descriptor keeps the system from giving the inode of a deleted directory to another.
    """
    descriptor = os.open(run, os.O_RDONLY)

    def check() -> None:
        try:
            is_same = os.path.samestat(run.stat(), os.fstat(descriptor))
        except FileNotFoundError:
            is_same = False
        if not is_same:
            raise make_gone_error(run)

    try:
        yield check
    finally:
        os.close(descriptor)


def make_gone_error(run: Path) -> UserError:
    """Return the error for a run whose directory was deleted or moved."""
    return UserError(
        f"the run ended because its directory is gone: expected {run} to stay in its place, but it "
        "was deleted or moved; put it back and resume it, or start a new run"
    )


def locate_run(path: Path) -> Path:
    """Return the path of the run or bundle that a user names, after checking that it exists.

    `shipped` is the model that ships, unless there is a file of that name.
    """
    try:
        path.stat()
    except (OSError, ValueError) as error:  # ValueError: the path contains a NUL.
        is_missing = isinstance(error, ValueError) or error.errno in _MISSING
        if is_missing and str(path) == SHIPPED_RUN:
            return SHIPPED_MODEL
        reason = "none of this name" if is_missing else error
        raise UserError(
            f"{shorten(str(path))} is not a run directory: expected a run or a bundle, found "
            f"{reason}; {_suggest_run(str(path))} ({SHIPPED_HINT})"
        ) from error
    return path


def _suggest_run(name: str) -> str:
    """Suggest the nearest run under runs/ for a name, with or without its directory."""
    names = {SHIPPED_RUN: SHIPPED_RUN}
    with contextlib.suppress(OSError):
        for run in _list_runs():
            names |= {run.name: str(run), str(run): str(run), f"{run}/bundle": f"{run}/bundle"}
    nearest = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {escape(names[nearest[0]])}?" if nearest else "name another"


def find_run(path: Path | None) -> Path:
    """Return a run directory: `path`, or the newest with weights under runs/ if it is None."""
    if path is None:
        if newest := find_newest_run():
            return newest
        raise UserError(
            f"no run with weights under {RUNS}/: expected a directory with a bundle, found "
            f"{len(_list_runs())} entries without; train one with `python -m valyrian_jax train` "
            "or name a run directory"
        )
    path = locate_run(path)
    if not (path / "config.toml").exists():
        raise UserError(
            f"{name_model(path)} is not a run directory: expected a config.toml in it, found "
            f"{'a file' if path.is_file() else 'none'}; name another directory"
        )
    return path


def find_newest_run() -> Path | None:
    """Return the newest run with weights under runs/, or None."""
    configs = [run / "config.toml" for run in _list_runs() if _has_weights(run)]
    newest = max(configs, key=lambda file: (file.stat().st_mtime_ns, file), default=None)
    return newest.parent if newest else None


def _list_runs() -> list[Path]:
    return [*RUNS.iterdir()] if RUNS.exists() else []


def load_run_config(run: Path) -> Config:
    """Return the configuration of the latest start of a run; a resume rewrites it.

    A relative path of the text is looked up in the working directory, then in each directory above
    the run: one of them is usually where the run began.
    """
    file = run / "config.toml"
    check_regular(file, "the configuration")  # `read_config` also reads what a user names
    config = read_config(file)
    return replace(config, data=find_text(config.data, *run.absolute().parents))


def _has_weights(run: Path) -> bool:
    """Return whether a directory is a run with a bundle; False if it cannot be read."""
    try:
        return (run / "config.toml").exists() and _find_run_bundle(run) is not None
    except PermissionError:  # Another user's.
        return False


def _find_run_bundle(run: Path) -> Path | None:
    """Return the bundle of a run, or the previous one if a save was killed between its renames."""
    bundle = run / "bundle"
    return bundle if bundle.exists() else find_previous(bundle)


def find_bundle(path: Path | None) -> Path:
    """Return a bundle directory: `path`, or the bundle of the run there.

    None is the newest run with weights under runs/, or the model that ships if there is none.
    """
    if path is None:
        path = find_newest_run() or SHIPPED_MODEL
    path = locate_run(path)
    if not (path / "config.toml").exists() and holds_weights(path):
        check_is_bundle(path)
        return path
    run = find_run(path)
    if bundle := _find_run_bundle(run):
        return bundle
    raise UserError(
        f"{run} has no bundle yet: `python -m valyrian_jax train` writes it at the first "
        "evaluation; resume the run or name another"
    )


def open_bundle(path: PathLike | None) -> tuple[Bundle, Path]:
    """Load the bundle that `find_bundle` finds; return it and its directory."""
    try:
        directory = find_bundle(None if path is None else check_input(path, "path"))
        return load_bundle(directory), directory
    except OSError as error:
        raise UserError(
            f"cannot read {error.filename or path}: {error.strerror}; expected a run or a bundle "
            "that you may read: change its permissions, or name another"
        ) from error


def load_run_bundle(path: PathLike | None) -> Bundle:
    """Load the bundle that `find_bundle` finds."""
    return open_bundle(path)[0]


def read_metrics(run: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of metrics.jsonl, except a last line that a crash has cut short."""
    file = run / "metrics.jsonl"
    if not file.exists():
        return
    damaged = 0  # number of the damaged line before
    for number, line in enumerate(read_lines(file), 1):
        if damaged:
            raise UserError(
                f"{file} is damaged: expected a JSON object with a step in line {damaged}; remove "
                "the line"
            )
        record = _parse_record(line)
        if record:
            yield record
        else:
            damaged = number


def _parse_record(line: bytes) -> dict[str, Any]:
    """Return the record in a line, or an empty one if the line is not a record."""
    try:
        record = _RECORD.validate_json(line)
    except ValidationError:
        return {}
    is_sound = isinstance(record.get("step"), int) and all(
        isinstance(value, list) == (name == "samples") for name, value in record.items()
    )
    return record if is_sound else {}


def format_samples(step: int, texts: list[str]) -> str:
    """Return the section of samples.txt for one step."""
    return f"=== step {step}\n" + "".join(f"{text}\n---\n" for text in texts)


def truncate_logs(run: Path, step: int) -> None:
    """Drop the metrics and samples of later steps, which a resumed run writes again."""
    metrics, samples = run / "metrics.jsonl", run / "samples.txt"
    with (
        replace_file(metrics) as new_metrics,
        replace_file(samples) as new_samples,
        new_metrics.open("w", encoding="utf-8", newline="") as metrics_file,
        new_samples.open("w", encoding="utf-8", newline="") as samples_file,
    ):
        for record in read_metrics(run):
            if record["step"] > step:
                continue
            metrics_file.write(json.dumps(record, ensure_ascii=False) + "\n")
            if "samples" in record:
                samples_file.write(format_samples(record["step"], record["samples"]))
