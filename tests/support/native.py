"""Builds of the C++17 runner, which the tests of all processes share."""

import os
import subprocess
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "bridge/cpp/native"
_FLAGS = "-O2 -D_GLIBCXX_ASSERTIONS -Wall -Wextra -Wshadow -Wconversion -Werror"
SANITIZERS = "-O1 -fsanitize=address,undefined -fno-sanitize-recover=all"
USES_SANITIZERS = "VALYRIAN_SANITIZERS" in os.environ  # set by tests/bench/native_checks.py


def build_native(sanitizers: bool = USES_SANITIZERS) -> Path:
    """Build what is out of date; return the directory of `valyrian-run` and `libvalyrian.so`.

    CMake can install the library from that directory.
    """
    directory = ROOT / "build" / ("native-sanitizers" if sanitizers else "native")
    directory.mkdir(parents=True, exist_ok=True)
    flags = f"{_FLAGS} {SANITIZERS}" if sanitizers else _FLAGS
    configure = ["cmake", "-S", str(ROOT / "bridge/cpp"), "-B", str(directory)]
    configure += ["-DVALYRIAN_LIBTORCH=OFF", "-DBUILD_SHARED_LIBS=ON"]
    configure += ["-DCMAKE_BUILD_TYPE=None", f"-DCMAKE_CXX_FLAGS={flags}"]
    with FileLock(directory / "lock"):
        for command in (configure, ["cmake", "--build", str(directory), "--parallel", "2"]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
    return directory
