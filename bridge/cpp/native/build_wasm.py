"""Build the runner of the browser.

python bridge/cpp/native/build_wasm.py [OUTPUT]

It needs the package ziglang, which brings a compiler. The file that it writes is in the repository,
so that `export --format web` needs no compiler; a test builds it again.
"""

import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parent
OUTPUT = SOURCES.parents[1] / "web" / "site" / "runner.wasm"
# A reactor is a module whose functions are called as a library's. Exceptions are not available.
FLAGS = (
    *("-target", "wasm32-wasi", "-mexec-model=reactor", "-mcpu=generic+simd128"),
    *("-std=c++17", "-O3", "-fno-exceptions", "-fno-rtti", "-Wall", "-Wextra", "-Wshadow"),
    *("-Wconversion", "-Werror", "-Wl,--strip-all", "-Wl,--gc-sections"),
)


def build(output: Path) -> None:
    """Compile wasm.cpp."""
    command = [sys.executable, "-m", "ziglang", "c++", *FLAGS, "wasm.cpp", "-o", str(output)]
    subprocess.run(command, cwd=SOURCES, check=True)
    output.chmod(0o644)


if __name__ == "__main__":
    build(Path(sys.argv[1]).absolute() if sys.argv[1:] else OUTPUT)
