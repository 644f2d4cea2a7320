"""The cache of compiled programs: nothing that happens to it changes a result."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Compiles one program, and prints whether it came from the cache, and its result.
PROGRAM = """
from valyrian_jax.cli.program_cache import use_program_cache
use_program_cache()
import jax
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
result = jax.jit(lambda x: (x @ x).sum())(jax.numpy.ones((8, 8)))
print("/jax/compilation_cache/cache_hits" in hits, float(result))
"""


def run_program(cache: Path, **environment: str) -> tuple[str, str]:
    """Return what the program prints on standard output and on standard error."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    variables = {
        **kept,
        "HOME": str(cache),
        "XDG_CACHE_HOME": str(cache),
        "JAX_PLATFORMS": "cpu",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        **environment,
    }
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def list_entries(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*-cache") if path.is_file()]


@pytest.mark.slow
def test_the_second_process_finds_the_program_of_the_first(tmp_path: Path) -> None:
    assert run_program(tmp_path) == ("False 512.0\n", "")
    assert list_entries(tmp_path)
    assert run_program(tmp_path) == ("True 512.0\n", "")


def test_a_damaged_entry_is_compiled_again(tmp_path: Path) -> None:
    run_program(tmp_path)
    for entry in list_entries(tmp_path):
        entry.write_bytes(entry.read_bytes()[:100])
    assert run_program(tmp_path) == ("False 512.0\n", "")


def test_a_directory_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    assert run_program(occupied) == ("False 512.0\n", "")


def test_the_variables_of_jax_decide(tmp_path: Path) -> None:
    own = tmp_path / "own"
    run_program(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false")
    assert not list_entries(tmp_path)
    run_program(tmp_path, JAX_COMPILATION_CACHE_DIR=str(own))
    assert list_entries(own) == list_entries(tmp_path)
