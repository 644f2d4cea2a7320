"""The wheel: installed into an empty directory it trains on the shipped corpus."""

import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.imports import PACKAGE_FILES, ROOT, path_from_root
from valyrian_jax.bundle.shipped_model import EXAMPLE_OPTIONS, EXAMPLE_PROMPT, SHIPPED_MODEL
from valyrian_jax.run_directory import load_run_config

pytestmark = pytest.mark.slow

SHIPPED = "valyrian_jax/shipped"
EVERY = ("steps 20", "eval_every 20", "checkpoint_every 20", "sample_every 0")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The contents of the wheel, built in a copy of the clone."""
    source, out = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("site")
    for name in ("valyrian_jax", "bridge", "configs", "data"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    subprocess.run(
        [sys.executable, "-c", code], cwd=source, check=True, capture_output=True, timeout=120
    )
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out)
    return out


def run_python(site: Path, directory: Path, *arguments: str) -> str:
    """Run Python in a directory with the wheel installed; return what it prints."""
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_wheel_holds_every_module_and_the_shipped_files_once(site: Path) -> None:
    files = {file.relative_to(site).as_posix(): file for file in site.rglob("*") if file.is_file()}
    expected = {
        **{
            path_from_root(file): file
            for file in PACKAGE_FILES
            if file.parent != ROOT and "cpp" not in file.parts
        },
        **{
            path_from_root(file): file
            for name in ("page", "site")
            for file in (ROOT / "bridge/web" / name).iterdir()
        },
        **{path_from_root(file): file for file in SHIPPED_MODEL.iterdir()},
        **{f"{SHIPPED}/configs/{file.name}": file for file in (ROOT / "configs").glob("*.toml")},
        **{f"{SHIPPED}/data/{file.name}": file for file in (ROOT / "data").glob("High*")},
    }
    assert len(expected) > 130
    for name, file in expected.items():
        assert files[name].read_bytes() == file.read_bytes(), name
    assert sum(name.endswith("High Valyrian.txt") for name in files) == 1
    assert not (ROOT / SHIPPED).exists()
    assert {name.split("/")[0] for name in files if "/" in name and ".dist-info" not in name} == {
        "bridge",
        "valyrian_jax",
    }


def test_the_wheel_finds_its_presets_and_its_corpus(site: Path, tmp_path: Path) -> None:
    code = (
        "from valyrian_jax.config import load_config; "
        "from valyrian_jax.files import find_config, find_input; "
        "print(find_config('tiny'), find_input(load_config(find_config('tiny')).data.path))"
    )
    files = (site / SHIPPED / name for name in ("configs/tiny.toml", "data/High Valyrian.txt"))
    assert run_python(site, tmp_path, "-c", code) == " ".join(map(str, files)) + "\n"


@pytest.mark.long  # A new place needs its own compiled tokenizer.
def test_the_wheel_trains_on_the_shipped_corpus_in_an_empty_directory(
    site: Path, tmp_path: Path
) -> None:
    settings = " ".join(f"--train.{setting}" for setting in EVERY)
    command = f"-m valyrian_jax train --config tiny --out run --data.held_out 0.01 {settings}"
    output = " ".join(run_python(site, tmp_path, *command.split()).split())
    corpus = site / SHIPPED / "data" / "High Valyrian.txt"
    assert f"corpus {corpus}: 8,825,161 bytes; " in output
    assert "; entropy 0.7" in output
    assert load_run_config(tmp_path / "run").data.path == str(corpus)
    assert (tmp_path / "run" / "bundle" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("script", "arguments", "output"),
    [
        ("valyrian", ["train", "--help"], "Usage: valyrian train [OPTIONS]"),
        ("valyrian", ["--version"], "valyrian-gpt "),
        ("valyrian", ["sample", *shlex.split(EXAMPLE_OPTIONS)], f"{EXAMPLE_PROMPT}. "),
        ("valyrian-bridge", ["generate", *shlex.split(EXAMPLE_OPTIONS)], f"{EXAMPLE_PROMPT}. "),
        ("valyrian-bridge", ["--version"], "valyrian-gpt "),
    ],
)
def test_the_console_scripts_are_the_same_programs(
    script: str, arguments: list[str], output: str, site: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; from importlib.metadata import distribution; "
        f"(script,) = distribution('valyrian-gpt').entry_points.select(name={script!r}); "
        f"sys.argv = {[script, *arguments]!r}; script.load()()"
    )
    assert run_python(site, tmp_path, "-c", code).startswith(output)
    assert list(tmp_path.iterdir()) == []
