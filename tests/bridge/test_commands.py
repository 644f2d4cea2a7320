"""python -m bridge as a user meets it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge import __main__ as main
from tests.support.commands import call
from valyrian_jax import __main__ as jax_main
from valyrian_jax.bundle.bundle import Bundle, load_bundle, save_bundle

ROOT = Path(__file__).parents[2]


def test_generate_writes_what_sample_writes(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for options in (
        ["--prompt", "the dragon", "--seed", 7, "--max-new-tokens", 40],
        ["--temperature", 0, "--max-new-tokens", 30],
        [
            "--prompt",
            "Ȳdra",
            "--num-samples",
            3,
            "--json",
            "--seed",
            2**32 - 1,
            "--top-k",
            9,
            "--top-p",
            1,
        ],
        ["--prompt", "Ȳdra", "--max-new-tokens", 9, "--show-tokens"],
    ):
        found = call(main.main, capsys, monkeypatch, "generate", directory, *options)
        assert found == call(jax_main.main, capsys, monkeypatch, "sample", directory, *options)
        assert found[0] == 0


def test_a_file_without_proof_says_so(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    status, out, _ = call(main.main, capsys, monkeypatch, "check", file, "--json")
    assert status == 0
    record = json.loads(out)
    assert (record["file"], record["parity"], len(record["examples"])) == (str(file), None, 4)
    status, out, _ = call(main.main, capsys, monkeypatch, "check", file)
    assert status == 0
    assert "not proven equal: run `python -m bridge verify` before `export`" in out


def test_verify_ends_with_status_1_where_runtimes_differ(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bridge import parity

    finding = {
        "runtime": "PyTorch",
        "what": "h.0",
        "difference": 1.0,
        "allowed": 0.5,
        "passed": False,
    }
    report = {"passed": False, "first_divergence": "PyTorch: h.0", "findings": [finding]}
    monkeypatch.setattr(parity, "verify", lambda *_: report)
    status, out, _ = call(main.main, capsys, monkeypatch, "verify", directory)
    assert status == 1
    assert "TOO FAR" in out
    assert "the runtimes DISAGREE; the first place: PyTorch: h.0" in out
    (directory / "parity.json").unlink()


def test_import(
    directory: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status, out, _ = call(
        main.main, capsys, monkeypatch, "import", directory, "-o", tmp_path / "new"
    )
    assert status == 0
    assert f"train on with train.py --init {tmp_path / 'new'}" in out
    assert load_bundle(tmp_path / "new").tokenizer == load_bundle(directory).tokenizer
    status, _, err = call(
        main.main, capsys, monkeypatch, "import", directory, "-o", tmp_path / "new"
    )
    assert (status, err) == (
        2,
        f"error: {tmp_path / 'new'} exists already; choose another place with -o\n",
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", "nowhere"], "nowhere is not a run directory"),
        (["generate"], "no run under runs/; train one with `python train.py`"),
        (["generate", "B", "--top-p", 0], "--top-p"),
        (["generate", "B", "--temperature", 0.0001], "must be 0 or at least 0.001"),
        (["verify", "nowhere"], "nowhere is not a run directory"),
        (["export", "nowhere"], "nowhere is not a run directory"),
        (["export", "B", "-o", "."], "is a directory"),
        (["export", "B", "-o", "no/such/place.pt"], "No such file or directory"),
        (["export", "B", "-o", "a.pt", "--format", "export"], "must be called something.pt2"),
        (
            ["export", "B", "-o", "no/such/place.pt2", "--format", "export"],
            "No such file or directory",
        ),
        (["verify", "B", "--program", "nowhere"], "'nowhere' does not exist"),
        (
            ["export", "B", "-o", "a.pt2", "--format", "export", "--quantize", "int8"],
            "--quantize goes with",
        ),
        (["check", "nothing.pt"], "cannot read nothing.pt"),
        (["import", "nowhere", "-o", "x"], "no directory at nowhere"),
        (["fly"], "No such command 'fly'"),
    ],
    ids=str,
)
def test_mistakes_end_in_one_line_and_status_2(
    arguments: list[Any],
    words: str,
    directory: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [directory if argument == "B" else argument for argument in arguments]
    status, out, err = call(main.main, capsys, monkeypatch, *given)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err
    assert list(tmp_path.iterdir()) == []


def test_damaged_bundles_are_refused_with_the_names(
    small: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save_bundle(small, tmp_path / "b")
    weights = tmp_path / "b" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    status, _, err = call(
        main.main, capsys, monkeypatch, "export", tmp_path / "b", "-o", tmp_path / "x.pt"
    )
    assert status == 2
    assert "model.safetensors does not match the manifest" in err


def test_the_bridge_works_without_jax(directory: Path, tmp_path: Path) -> None:
    start = "import sys\nfor name in ('jax', 'flax', 'optax', 'orbax', 'wandb', 'transformers'): sys.modules[name] = None\n"
    start += "from bridge.__main__ import main, run_command\n"
    start += "try: run_command(main)\n"  # with the arguments of the process
    start += "except SystemExit as done: assert not done.code\n"
    start += "print('exported', flush=True)\n"
    start += f"sys.argv = ['bridge', 'verify', {str(directory)!r}]\nrun_command(main)"
    done = subprocess.run(
        [sys.executable, "-c", start, "export", str(directory), "-o", "x.pt", "--json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    record = json.loads(done.stdout.splitlines()[0])
    assert (record["file"], record["bytes"]) == ("x.pt", (tmp_path / "x.pt").stat().st_size)
    assert done.returncode == 2
    assert done.stdout.endswith("\nexported\n")
    assert (
        done.stderr.splitlines(keepends=True)[-1]
        == "error: verify compares with JAX, which is not installed; install jax, flax and optax\n"
    )
