"""The two packages import lazily, work without each other's library, and have running examples."""

import doctest
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
USE = """
model = package.load("runs/first")
assert model.generate("the").startswith("the")
assert model.score("the wolf").perplexity > 1
assert model.attention("the").weights.shape[:2] == (2, 3)
assert model.logits(model.encode("the")).shape[1] == 300
assert "orbax" not in sys.modules  # only training needs it
"""


@pytest.mark.parametrize(
    ("name", "blocked"), [("valyrian_jax", "torch bridge"), ("bridge", "jax jaxlib flax optax")]
)
def test_a_package_works_without_the_library_of_the_other(
    name: str, blocked: str, home: Path
) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"for name in {blocked.split()}: sys.modules[name] = None\n"
        f"import {name} as package\nassert not {{'jax', 'torch', 'numpy'}} & {{*sys.modules}} - "
        f"{{*{blocked.split()}}}\n{USE}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=home, timeout=120)


def test_every_name_exists_and_no_other(package: ModuleType) -> None:
    assert {*package.__all__} <= {*dir(package)}
    for name in package.__all__:
        assert getattr(package, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'laod'"):
        _ = package.laod


@pytest.mark.parametrize(
    "name",
    [
        "valyrian_jax",
        pytest.param("valyrian_jax.api", marks=pytest.mark.slow),  # It trains.
        "bridge",
        "bridge.api",
    ],
)
def test_the_examples_print_what_they_show(
    name: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # without a run, so the model that ships is used
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert results.attempted
    assert not results.failed
