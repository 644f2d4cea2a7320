"""The commands of python -m bridge behave as their help says."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bridge import __main__ as main
from bridge.export_metadata import describe_certificate
from tests.support.commands import call
from valyrian_jax.bundle.bundle import Bundle, load_bundle, save_bundle
from valyrian_jax.cli.main import main as jax_main


def test_generate_prints_what_sample_prints(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    several = ["--num-samples", 3, "--json", "--seed", 2**32 - 1, "--top-k", 9, "--top-p", 1]
    for options in (
        ["--prompt", "the dragon", "--seed", 7, "--max-new-tokens", 40],
        ["--temperature", 0, "--max-new-tokens", 30],
        ["--prompt", "Ȳdra", *several],
        ["--prompt", "Ȳdra", "--max-new-tokens", 9, "--show-tokens"],
    ):
        output = call(main.main, capsys, monkeypatch, "generate", directory, *options)
        assert output == call(jax_main, capsys, monkeypatch, "sample", directory, *options)
        assert output[0] == 0


def test_check_reports_that_a_file_has_no_proof(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, _ = call(main.main, capsys, monkeypatch, "check", file, "--json")
    assert status == 0
    record = json.loads(out)
    assert (record["file"], record["parity"], len(record["examples"])) == (str(file), None, 6)
    status, out, _ = call(main.main, capsys, monkeypatch, "check", file)
    assert status == 0
    assert "not proven equal: run `python -m bridge verify` before `export`" in out


@pytest.fixture
def disagreement(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A report of a difference that is too large, which `verify` finds."""
    from bridge import parity

    finding = {"runtime": "PyTorch", "what": "h.0", "difference": 1.0, "allowed": 0.5}
    finding |= {"passed": False}
    report = {"passed": False, "first_divergence": "PyTorch: h.0", "findings": [finding]}
    report["left_out"] = []
    monkeypatch.setattr(parity, "verify", lambda *_: report)
    return report


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_verify_prints_a_report_that_it_cannot_write(
    options: list[str],
    directory: Path,
    disagreement: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (directory / "parity.json").mkdir()  # Root may write in a directory that is read-only.
    status, out, err = call(main.main, capsys, monkeypatch, "verify", directory, *options)
    (directory / "parity.json").rmdir()
    assert status == 1
    assert f"not written: {directory / 'parity.json'} (" in err
    assert json.loads(out) == disagreement if options else "TOO FAR" in out


@pytest.mark.parametrize("passed", [False, True])
def test_verify_keeps_its_status_if_nobody_reads_the_report(
    passed: bool,
    directory: Path,
    disagreement: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disagreement["passed"] = passed
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as broken, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", broken)
        status = call(main.main, capsys, monkeypatch, "verify", directory)[0]
    assert status == (0 if passed else 1)
    assert json.loads((directory / "parity.json").read_text())["passed"] is passed
    (directory / "parity.json").unlink()


def test_verify_exits_with_status_1_if_runtimes_differ(
    directory: Path,
    disagreement: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status, out, _ = call(main.main, capsys, monkeypatch, "verify", directory)
    assert status == 1
    assert "TOO FAR" in out
    assert "the runtimes DISAGREE; first divergence: PyTorch: h.0" in out
    (directory / "parity.json").unlink()


def test_verify_estimates_the_rest_from_its_first_parts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 10.0, 20.0, 30.0, 50.0, 99.0])
    monkeypatch.setattr(main.time, "monotonic", lambda: next(clock))
    progress = main._make_verify_progress()
    for part in "abcdef":
        progress(part)
    lines = ["  a", "  b", "  c", "  d", "  the rest takes about 2 minutes", "  e", "  f"]
    assert capsys.readouterr().err.splitlines() == lines


def test_import_writes_a_bundle_but_into_no_directory_in_use(
    directory: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out_path = tmp_path / "new"
    command = ("import", directory, "-o", out_path)
    status, out, _ = call(main.main, capsys, monkeypatch, *command)
    assert status == 0
    assert f"train it further with `python -m valyrian_jax train --init {out_path}`" in out
    assert load_bundle(out_path).tokenizer == load_bundle(directory).tokenizer
    status, _, err = call(main.main, capsys, monkeypatch, *command)
    assert status == 2
    assert err == (
        f"error: cannot write {out_path}: expected a new or empty directory, found existing files; "
        "choose another with -o\n"
    )


def test_import_reads_a_checkpoint_of_nanogpt_and_says_what_it_changed(
    small: Bundle,
    directory: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tensors = {
        name: torch.from_numpy(tensor.T if ".h." in name and tensor.ndim == 2 else tensor)
        for name, tensor in small.tensors.items()
    }
    tensors["transformer.wte.weight"] = torch.nn.functional.pad(
        tensors["transformer.wte.weight"], (0, 0, 0, 20)
    )
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"]
    sizes = {"n_layer": 2, "n_head": 3, "n_embd": 24, "block_size": 24, "vocab_size": 320}
    torch.save({"model": tensors, "model_args": sizes}, tmp_path / "ckpt.pt")
    command: tuple[Any, ...] = ("import", tmp_path / "ckpt.pt", "-o", tmp_path / "new")
    status, _, err = call(main.main, capsys, monkeypatch, *command)
    assert (status, "pass one with --tokenizer" in err) == (2, True)
    command = (*command, "--tokenizer", directory, "--activation", "gelu_new")
    status, out, err = call(main.main, capsys, monkeypatch, *command)
    assert (status, err) == (0, "")
    notes, last = out.splitlines()[:-1], out.splitlines()[-1]
    assert [note[:41] for note in notes] == ["note: cut 20 rows of padding from the voc"]
    assert "were never the target of any token" in notes[0]
    assert last.startswith(f"{tmp_path / 'new'}: ")
    assert call(main.main, capsys, monkeypatch, "generate", tmp_path / "new")[0] == 0


TO_PT2 = ["export", "BUNDLE", "--format", "export", "-o"]
USER_ERRORS: list[tuple[list[Any], str]] = [
    (["generate", "nowhere"], "nowhere is not a run directory"),
    (["generate", "BUNDLE", "--top-p", 0], "--top-p"),
    (["generate", "BUNDLE", "--temperature", 0.0001], "must be 0 or at least 0.001"),
    (["verify", "nowhere"], "nowhere is not a run directory"),
    (["verify", "BUNDLE", "--program", "nowhere"], "'nowhere' does not exist"),
    (["export", "nowhere"], "nowhere is not a run directory"),
    (["export", "BUNDLE", "-o", "."], "it is a directory, expected the name of a file"),
    (["export", "BUNDLE", "-o", "no/such/directory.pt"], "No such file or directory"),
    ([*TO_PT2, "a.zip"], "expects a name that ends in .pt2"),
    ([*TO_PT2, "a.pt"], "--out a.pt has the suffix of --format torchscript, found --format export"),
    ([*TO_PT2, "no/such/directory.pt2"], "No such file or directory"),
    ([*TO_PT2, "a.pt2", "--quantize", "int8"], "--quantize int8 requires another --format"),
    (["export", "BUNDLE", "--format", "gguf", "--quantize", "int8"], "expected f16 or q8_0"),
    (["export", "BUNDLE", "--format", "gguf", "-o", "no/such/a.gguf"], "No such file or directory"),
    (["export", "BUNDLE", "-o", "a.gguf", "--quantize", "int8"], "found --format gguf"),
    (["check", "nothing.gguf"], "cannot read nothing.gguf"),
    (["check", "nothing.pt"], "cannot read nothing.pt"),
    (["import", "nowhere", "-o", "x"], "nowhere does not exist"),
    (["fly"], "No such command 'fly'.\n"),
    (["sample"], "No such command 'sample'. Use `valyrian sample`."),
    (
        ["--host", "::1", "serve"],
        "No such option '--host'. Put it after the command: `serve --host`",
    ),
]


@pytest.mark.parametrize(("arguments", "words"), USER_ERRORS, ids=str)
def test_user_errors_end_in_one_line_and_status_2(
    arguments: list[Any],
    words: str,
    directory: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [directory if argument == "BUNDLE" else argument for argument in arguments]
    status, out, err = call(main.main, capsys, monkeypatch, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err
    assert list(tmp_path.iterdir()) == []


def test_the_error_of_a_damaged_bundle_names_the_file(
    small: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save_bundle(small, tmp_path / "b")
    weights = tmp_path / "b" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    command = ("export", tmp_path / "b", "-o", tmp_path / "x.pt")
    status, _, err = call(main.main, capsys, monkeypatch, *command)
    assert status == 2
    assert "model.safetensors does not match the manifest" in err


def test_a_file_says_that_verify_found_a_difference() -> None:
    parity = {"passed": False, "first_divergence": "PyTorch: h.0"}
    certificate = {"parity": parity, "int8": None, "examples": []}
    assert "NOT equal: `python -m bridge verify` found a difference, first in PyTorch: h.0" in (
        describe_certificate(certificate)
    )
