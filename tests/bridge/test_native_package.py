"""The C++17 runner builds from one file, and as an installed library that others find."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from gguf import GGMLQuantizationType as StorageType

from bridge.cpp.native.amalgamate import amalgamate
from bridge.gguf.writer import write_gguf
from tests.support.native import ROOT, SOURCES, build_native
from valyrian_jax import __version__
from valyrian_jax.bundle.bundle import Bundle

README = ROOT / "bridge/cpp/README.md"
PROJECT = """
cmake_minimum_required(VERSION 3.18)
project(hello LANGUAGES C CXX)
find_package(valyrian 0.2 REQUIRED)
add_executable(hello hello.c)
target_link_libraries(hello valyrian::valyrian)
get_target_property(features valyrian::headers INTERFACE_COMPILE_FEATURES)
message(STATUS "headers need ${features}")
"""
PROGRAM = """
#include <stdio.h>
#include "valyrian.h"
int main(int argc, char** argv) {
  valyrian_model* model = valyrian_load(argv[argc - 1], NULL);
  valyrian_text* text = valyrian_start(model, "the dragon", 10, NULL);
  const char* piece;
  size_t size;
  printf("the dragon");
  while (valyrian_next(text, &piece, &size) == 1) fwrite(piece, 1, size, stdout);
  puts("");
  valyrian_end(text);
  valyrian_free(model);
  return 0;
}
"""


@pytest.fixture(scope="module")
def model_file(small: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "model.gguf"
    write_gguf(path, small, StorageType.F32, {"activation": small.model.activation})
    return path


def run(*command: Any, cwd: Path | None = None, stdin: str = "") -> bytes:
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, input=stdin.encode(), capture_output=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return done.stdout


@pytest.mark.slow
def test_the_service_of_the_readme_builds_against_one_header(
    tmp_path: Path, model_file: Path
) -> None:
    """Threads that share the model answer as the program does, and a wrong line is one answer."""
    blocks = re.findall(r"```cpp\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (source,) = (block for block in blocks if '#include "valyrian.hpp"' in block)
    (tmp_path / "service.cpp").write_text(source, encoding="utf-8")
    (tmp_path / "valyrian.hpp").write_text(amalgamate("valyrian.hpp"), encoding="utf-8")
    run("g++", "-std=c++17", "-pthread", "service.cpp", "-o", "service", cwd=tmp_path)
    (tmp_path / "valyrian.gguf").symlink_to(model_file)
    prompts = ["the dragon", "", "x" * 2001, "Ȳdra", "the wolf", "a"]
    answers = run("./service", cwd=tmp_path, stdin="\n".join(prompts))
    program, expected = build_native() / "valyrian-run", b""
    for seed, prompt in enumerate(prompts):
        options = ("--max-new-tokens", 50, "--stop", ".", "--prompt", prompt, "--seed", seed)
        is_long = len(prompt) > 2000
        expected += (
            b"error: the prompt has over 2000 bytes\n"
            if is_long
            else run(program, model_file, *options)
        )
    assert answers == expected


def test_the_program_is_one_file() -> None:
    """The test above compiles one."""
    content = amalgamate("main.cpp")
    assert '#include "' not in content
    assert "int main(" in content
    assert content.count("struct Error :") == 1


@pytest.mark.skipif(not shutil.which("clang++"), reason="needs clang")
def test_clang_builds_the_program_without_a_warning() -> None:
    flags = ("-std=c++17", "-O0", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror")
    run("clang++", *flags, "-c", SOURCES / "main.cpp", "-o", os.devnull)


@pytest.mark.slow
def test_another_project_finds_the_installed_library(tmp_path: Path, model_file: Path) -> None:
    build, prefix, own = build_native(), tmp_path / "prefix", tmp_path / "own"
    run("cmake", "--install", build, "--prefix", prefix, "--component", "library")
    headers = {path.name for pattern in ("*.h", "*.hpp", "*.inc") for path in SOURCES.glob(pattern)}
    assert {path.name for path in (prefix / "include/valyrian").iterdir()} == headers

    own.mkdir()
    (own / "CMakeLists.txt").write_text(PROJECT)
    (own / "hello.c").write_text(PROGRAM)
    output = run("cmake", "-S", own, "-B", own / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    assert b"headers need cxx_std_17" in output
    run("cmake", "--build", own / "build")
    expected = run(build / "valyrian-run", model_file, "--prompt", "the dragon")
    assert run(own / "build/hello", model_file) == expected

    package = next(prefix.rglob("valyrian.pc"))
    assert f"Version: {__version__}\n" in package.read_text()
    if shutil.which("pkg-config"):
        query = ("env", f"PKG_CONFIG_PATH={package.parent}", "pkg-config", "--cflags", "--libs")
        flags = [Path(flag[2:]).resolve() for flag in run(*query, "valyrian").decode().split()]
        assert {prefix / "include/valyrian", prefix / "lib"} <= set(flags)
