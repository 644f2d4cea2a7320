"""Build the runner of the browser.

python bridge/cpp/native/build_wasm.py [OUTPUT]

It needs the package ziglang, which contains a compiler. The file that it writes is in the
repository, so that `export --format web` needs no compiler; a test builds it again. It ends with a
digest of its sources, so that another test notices when they have changed.
"""

import hashlib
import re
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
PROGRAM_SOURCES = ("options.hpp", "instructions_avx2.inc", "instructions_avx512.inc")  # not here


def digest_sources() -> bytes:
    """Return a SHA-256 of the sources without their comments."""
    names = {path.name for pattern in ("*.hpp", "*.inc") for path in SOURCES.glob(pattern)}
    sources = [SOURCES / name for name in sorted(names.difference(PROGRAM_SOURCES) | {"wasm.cpp"})]
    texts = [re.sub(r"\s*//.*", "", path.read_text(encoding="utf-8")) for path in sources]
    return hashlib.sha256("\0".join([*FLAGS, *texts]).encode()).digest()


def build(output: Path) -> None:
    """Compile wasm.cpp, and add the digest as a custom section, which engines skip."""
    command = [sys.executable, "-m", "ziglang", "c++", *FLAGS, "wasm.cpp", "-o", str(output)]
    subprocess.run(command, cwd=SOURCES, check=True)
    content = b"\7sources" + digest_sources()
    with output.open("ab") as file:
        file.write(bytes([0, len(content)]) + content)
    output.chmod(0o644)


if __name__ == "__main__":
    build(Path(sys.argv[1]).absolute() if sys.argv[1:] else OUTPUT)
