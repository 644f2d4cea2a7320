"""A page that runs a model in the browser: a directory of files for any web server.

The form and the display of the text come from the page of `serve` (bridge/web/page). The model is a
GGUF file, which the C++ runner computes as WebAssembly (bridge/web/site).
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.api import Model, load
from bridge.export_metadata import Progress, ignore_progress
from bridge.gguf import export as gguf_export
from bridge.web.app import PAGE, describe_model
from valyrian_jax.errors import UserError
from valyrian_jax.files import check_output_directory, make_temporary_directory

SITE = Path(__file__).parent / "site"
MODEL_NAME = "model.gguf"
_SHARED = (
    "distribution.js",
    "elements.js",
    "fields.js",
    "settings.js",
    "style.css",
    "text.js",
    "write.js",
)
# Browsers look for a new version in these two; the first also marks a directory as ours.
_MARK, _FILE_LIST = "service_worker.js", "files.js"


def export(
    directory: Path,
    out: Path,
    name: str,
    quantize: str | None = None,
    progress: Progress = ignore_progress,
) -> gguf_export.Certificate:
    """Write a bundle as a static page.

    Args:
        directory: Directory of the bundle.
        out: Directory to write. An earlier page is replaced; files that are not ours stay.
        name: Name of the model on the page.
        quantize: Type of the matrices, "q8_0" or None for float32.
        progress: Function that is called with the name of each part of the work.

    Returns:
        The certificate of the model.

    Raises:
        UserError: The bundle is invalid, or the directory has other files or cannot be written.
    """
    _check_directory(out)
    with _fill_directory(out) as partial:
        certificate = gguf_export.export(directory, partial / MODEL_NAME, quantize, progress)
        add_page(partial, load(directory), name)
    return certificate


def add_page(directory: Path, model: Model, name: str) -> None:
    """Write the page of a model into a directory that has its GGUF file."""
    size = (directory / MODEL_NAME).stat().st_size
    description = describe_model(model, name) | {"bytes": size}
    (directory / "model.json").write_text(json.dumps(description), encoding="utf-8")
    for file in [*(PAGE / shared for shared in _SHARED), *SITE.iterdir()]:
        shutil.copyfile(file, directory / file.name)
    (directory / _FILE_LIST).write_text(_list_files(directory), encoding="utf-8")


def _check_directory(out: Path) -> None:
    check_output_directory(out)
    if out.is_dir() and any(out.iterdir()) and not (out / _MARK).is_file():
        raise UserError(
            f"cannot write {out}: expected a new or empty directory, or one that `export --format "
            "web` wrote, found other files; choose another with -o"
        )


@contextmanager
def _fill_directory(out: Path) -> Iterator[Path]:
    """Yield a temporary directory whose files then move to `out`, the list of files last."""
    target = Path(os.path.realpath(out))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = make_temporary_directory(target)
        try:
            yield partial
            target.mkdir(exist_ok=True)
            names = sorted(file.name for file in partial.iterdir())
            for name in sorted(names, key=lambda name: (name == _FILE_LIST, name != _MARK)):
                (partial / name).replace(target / name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"cannot write the directory {out}: {error.strerror}; choose another with -o"
        ) from error


def _list_files(directory: Path) -> str:
    """Return the script that names the files of a page and their version, a hash."""
    digest = hashlib.sha256()
    names = sorted(file.name for file in directory.iterdir())
    for name in names:
        digest.update(f"{name}\n".encode() + (directory / name).read_bytes())
    # "./" is index.html. The browser itself keeps the service worker, which reads this list.
    files = ["./", *(name for name in names if name not in ("index.html", _MARK))]
    return f"const FILES = {json.dumps(files)};\nconst VERSION = {digest.hexdigest()[:16]!r};\n"
