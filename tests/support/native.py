"""Builds of the C++17 runner, which the tests of all processes share."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "bridge/cpp/native"
_COMMAND = ("g++", "-std=c++17", "-O2", "-D_GLIBCXX_ASSERTIONS")
_COMMAND += ("-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror")
SANITIZERS = "-fsanitize=address,undefined -fno-sanitize-recover=all"
USES_SANITIZERS = "VALYRIAN_SANITIZERS" in os.environ  # set by tests/bench/native_checks.py
_OUTPUTS = {
    "valyrian-run": ("main.cpp",),
    "libvalyrian.so": ("-shared", "-fPIC", "valyrian.cpp"),
}


def build_native(sanitizers: bool = USES_SANITIZERS) -> Path:
    """Build what is out of date; return the directory of `valyrian-run` and `libvalyrian.so`."""
    directory = ROOT / "build" / ("native-sanitizers" if sanitizers else "native")
    directory.mkdir(parents=True, exist_ok=True)
    newest = max(path.stat().st_mtime for path in [*SOURCES.iterdir(), Path(__file__)])

    def build(name: str) -> None:
        output = directory / name
        if output.exists() and output.stat().st_mtime > newest:
            return
        flags = SANITIZERS.split() if sanitizers else []
        command = [*_COMMAND, *flags, *_OUTPUTS[name], "-o", str(output)]
        done = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    with FileLock(directory / "lock"), ThreadPoolExecutor(2) as pool:
        list(pool.map(build, _OUTPUTS))
    return directory
