"""Build the C++17 runner for other systems with clang, and run what this machine can run.

python tests/bench/native_cross.py MODEL.gguf [--target aarch64-linux-musl ...]

It needs the package ziglang, which brings a clang with the C++ libraries of all targets; the first
build for a target compiles them, which takes minutes. `qemu-aarch64` runs the program for Arm.
"""

import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click

sys.path.append(str(Path(__file__).parents[2]))

from tests.support.native import SOURCES, build_native

TARGETS = (
    "x86_64-linux-musl",
    "aarch64-linux-musl",
    "x86_64-windows-gnu",
    "aarch64-macos",
    "x86_64-macos",
)
FLAGS = ("-std=c++17", "-O3", "-s", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror")
SAMPLE = ("--prompt", "Sīr vali", "--seed", "9", "--num-samples", "40", "--max-new-tokens", "200")


def find_emulator(target: str) -> list[str] | None:
    """Return the command that runs programs for a target, or None if there is none here."""
    if "linux" not in target:
        return None
    processor = target.split("-")[0]
    emulator = shutil.which(f"qemu-{processor}")
    return [] if processor == platform.machine() else [emulator] if emulator else None


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--target", "targets", multiple=True, default=TARGETS, help="A target of zig [all].")
def main(model: Path, targets: tuple[str, ...]) -> None:
    """Build for every target, and compare the texts of MODEL with those of the program here."""
    sample = [str(model), *SAMPLE]
    program = str(build_native() / "valyrian-run")
    expected = subprocess.run([program, *sample], check=True, capture_output=True).stdout
    with tempfile.TemporaryDirectory() as name:
        for target in targets:
            output = Path(name) / target
            command = [sys.executable, "-m", "ziglang", "c++", "-target", target, *FLAGS]
            subprocess.run([*command, SOURCES / "main.cpp", "-o", output], check=True)
            click.echo(f"{target}: {output.stat().st_size:,} bytes", nl=False)
            emulator = find_emulator(target)
            if emulator is None:
                click.echo(", not run here")
                continue
            ran = subprocess.run([*emulator, output, *sample], check=True, capture_output=True)
            same = sum(map(bytes.__eq__, ran.stdout.splitlines(), expected.splitlines()))
            click.echo(f", {same} of {len(expected.splitlines())} texts are the same")


if __name__ == "__main__":
    main()
