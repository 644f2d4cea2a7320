"""The cache of compiled programs, so that a command compiles a model only once on a machine."""

import hashlib
import os
import platform
import warnings
from pathlib import Path

from platformdirs import user_cache_path

_LEAST_SECONDS = "0.1"  # A program that compiles faster is not worth a file.


def use_program_cache() -> None:
    """Keep the programs that JAX compiles in the user's cache directory.

    Call it before JAX is imported. It only sets environment variables that JAX reads, and none that
    the user has set: JAX_COMPILATION_CACHE_DIR names another directory, and
    JAX_ENABLE_COMPILATION_CACHE=false turns the cache off. JAX looks a program up by its code, its
    options and the version of its compiler, but not by the instructions of the processor, so every
    kind of processor has a directory of its own.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    directory = user_cache_path("valyrian-gpt") / "programs" / _identify_processor()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(directory)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", _LEAST_SECONDS)
    # JAX compiles a program that the cache cannot read or write, so no warning is needed.
    warnings.filterwarnings("ignore", r"Error (reading|writing) persistent compilation cache entry")


def _identify_processor() -> str:
    """Return a hash of the processor's model, its instructions and its number of cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    kinds = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU "))}
    facts = [*sorted(kinds), platform.machine(), platform.processor(), str(os.cpu_count())]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
