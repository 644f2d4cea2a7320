"""The directory that `export --format web` writes."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge import __main__ as main
from bridge.cpp.native.build_wasm import digest_sources
from bridge.web.static_site import SITE
from tests.support.commands import call
from valyrian_jax.bundle.bundle import Bundle, save_bundle


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: Any) -> tuple[int, str, str]:
        return call(main.main, capsys, monkeypatch, "export", *arguments, "--format", "web")

    return run


@pytest.mark.slow
def test_a_page_replaces_an_earlier_one_and_leaves_other_files(
    run: Any, site: Path, make: Callable[..., Bundle], tmp_path: Path
) -> None:
    save_bundle(make(n_embd=32, n_head=2), tmp_path / "bundle")
    out = tmp_path / "new" / "page"
    shutil.copytree(site, out)
    (out / "CNAME").write_text("example.org")
    status, stdout, stderr = run(tmp_path / "bundle", "-o", out, "--quantize", "q8_0", "--json")
    assert status == 0, stderr
    assert (out / "CNAME").read_text() == "example.org"
    (out / "CNAME").unlink()
    sizes = {file.name: file.stat().st_size for file in out.iterdir()}
    assert json.loads(stdout)["bytes"] == sum(sizes.values()) + len("example.org")
    assert json.loads((out / "model.json").read_text())["bytes"] == sizes["model.gguf"]
    assert json.loads(stdout)["q8_0"]["top1"] > 0.5
    files = (out / "files.js").read_text()
    kept = {*re.findall(r'"([^"]+)"', files)} - {"./"}
    assert kept | {"index.html", "service_worker.js", "files.js"} == sizes.keys()
    assert files != (site / "files.js").read_text()
    assert [path.name for path in out.parent.iterdir()] == ["page"]


def test_the_runner_was_built_from_the_sources() -> None:
    content = (SITE / "runner.wasm").read_bytes()
    advice = "the sources have changed; run `python bridge/cpp/native/build_wasm.py`"
    assert content.endswith(digest_sources()), advice


def test_a_directory_of_others_is_refused(run: Any, directory: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").touch()
    status, _, stderr = run(directory, "-o", tmp_path)
    assert status == 2
    assert stderr.count("\n") == 1
    assert "expected a new or empty directory, or one that `export --format web` wrote" in stderr
    assert [file.name for file in tmp_path.iterdir()] == ["index.html"]


@pytest.mark.parametrize("kind", ["a file", "a FIFO", "standard output"])
def test_a_page_replaces_nothing_else(
    run: Any, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a file").touch()
    os.mkfifo("a FIFO")
    status, _, stderr = run(directory, "-o", "-" if kind == "standard output" else kind)
    assert status == 2
    assert stderr.count("\n") == 1
    assert f"expected a directory or a new name, found {kind}" in stderr


@pytest.mark.parametrize("quantize", ["int8", "f16"])
def test_only_blocks_of_int8_are_offered(run: Any, directory: Path, quantize: str) -> None:
    status, _, stderr = run(directory, "--quantize", quantize)
    assert status == 2
    assert "expected q8_0" in stderr


def test_the_files_of_the_page_are_whole() -> None:
    assert (SITE / "runner.wasm").read_bytes()[:4] == b"\0asm"
    assert (SITE / "runner.wasm").stat().st_size < 300_000
