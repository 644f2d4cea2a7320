"""The proof passes for equal models and fails for all others."""

import contextlib
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from bridge import __main__ as main
from bridge import parity, parity_plan
from bridge.gpt import to_module
from bridge.parity_report import Comparison, hash_bundle, print_report, read_report
from bridge.parity_runtimes import RuntimeOutputs, measure_jax, measure_torch
from tests.support.commands import call
from tests.support.native import build_native
from valyrian_jax.bundle.bundle import Bundle, save_bundle
from valyrian_jax.config import OptimConfig
from valyrian_jax.errors import UserError

MODULES = [f"{name} {dtype}" for name in ("PyTorch", "transformers") for dtype in parity.TOLERANCE]
STAGES = ["embedding", "h.0", "h.1", "ln_f", "logits", "KL, largest", "top-1, share that differs"]

# The same as in `verify`, which lets JAX reuse the compiled function.
TOKENS = np.random.default_rng(0).permutation(np.arange(8 * 24) % 300).reshape(8, 24)
ADAMW = OptimConfig(nesterov=False)  # torch's AdamW has no Nesterov momentum


class Verified(NamedTuple):
    """A bundle directory after `python -m bridge verify`."""

    directory: Path
    status: int
    output: str
    report: dict[str, Any]  # parity.json


@pytest.fixture(scope="module")
def verified(
    small: Bundle, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Verified:
    """A run, verified by the example in the command's help, with C++ if that can be built."""
    home = tmp_path_factory.mktemp("verified")
    directory = home / "runs" / "first" / "bundle"
    directory.parent.mkdir(parents=True)
    (directory.parent / "config.toml").touch()
    save_bundle(small, directory)
    try:
        program, runner = request.getfixturevalue("program"), build_native() / "valyrian-run"
        options = [f"--program={program}", f"--runner={runner}"]
    except pytest.skip.Exception:
        options = []
    (example,) = re.findall("^Example: python -m bridge (.*)", main.verify.epilog or "")
    with contextlib.chdir(home):
        result = CliRunner().invoke(main.main, [*shlex.split(example), *options])
    report = directory / "parity.json"
    assert report.exists(), result.output
    return Verified(directory, result.exit_code, result.output, json.loads(report.read_text()))


@pytest.mark.slow
def test_all_runtimes_agree_in_every_quantity(
    verified: Verified, program: Path, small: Bundle
) -> None:
    report = verified.report
    assert report["passed"]
    assert report["first_divergence"] is None
    compared = {(finding["runtime"], finding["what"]) for finding in report["findings"]}
    for module in MODULES:
        assert {(module, stage) for stage in STAGES} <= compared
        assert {(module, f"gradient: {name}") for name in small.tensors} <= compared
        if "float64" in module:
            updated = {(module, f"weights after a step: {name}") for name in small.tensors}
            assert updated <= compared
    assert ("TorchScript float32", "logits") in compared
    for runtime in ("PyTorch", "TorchScript", "C++", "C++ from GGUF"):
        assert sum(r == runtime and "texts of 8 that differ" in what for r, what in compared) == 6


def test_the_tolerances_are_the_documented_ones(verified: Verified) -> None:
    for finding in verified.report["findings"]:
        if finding["what"] == "logits":
            relative = 1e-5 if "float32" in finding["runtime"] else 1e-12
            # The largest logit of this model is about 50.
            assert relative <= finding["allowed"] <= relative * 60


def failed_comparisons(
    bundle: Bundle, module: torch.nn.Module, reference: RuntimeOutputs
) -> list[Comparison]:
    outputs = measure_torch(module, TOKENS, ADAMW)
    numbers = parity.compare_outputs("x", reference, outputs, 1e-12)
    updates = parity.compare_update("x", reference, outputs, 1e-12, ADAMW.lr)
    return [comparison for comparison in (*numbers, *updates) if not comparison.passed]


def test_a_change_of_any_weight_is_detected(small: Bundle) -> None:
    reference = measure_jax(small, TOKENS, ADAMW, "float64")
    assert not failed_comparisons(small, to_module(small).double(), reference)
    rng = np.random.default_rng(1)
    for name, tensor in small.tensors.items():
        changed = tensor.copy()
        changed.reshape(-1)[rng.integers(tensor.size)] += 1e-6
        other = Bundle(small.model, {**small.tensors, name: changed}, small.tokenizer)
        failed = failed_comparisons(small, to_module(other).double(), reference)
        assert failed, name
        if name.startswith("transformer.h.1.mlp"):
            assert failed[0].quantity == "h.1", "the first divergence is the changed block"


def test_a_learning_rate_below_float32_is_compared(make: Callable[..., Bundle]) -> None:
    bundle = make(n_layer=1)
    for lr in (1e-46, 0.1):
        optim = replace(ADAMW, lr=lr)
        reference = measure_jax(bundle, TOKENS, optim, "float64")
        outputs = measure_torch(to_module(bundle).double(), TOKENS, optim)
        comparisons = [*parity.compare_update("x", reference, outputs, 1e-12, lr)]
        assert comparisons
        assert all(comparison.passed for comparison in comparisons)


@pytest.fixture(scope="module")
def reference(small: Bundle) -> RuntimeOutputs:
    return measure_jax(small, TOKENS, None, "float32")


@pytest.mark.parametrize(
    "change",
    [{"activation": "gelu"}, {"layer_norm_epsilon": 1e-5}, {"n_head": 4}, {"n_head": 2}],
    ids=str,
)
def test_a_change_of_the_configuration_is_detected(
    small: Bundle, reference: RuntimeOutputs, change: dict[str, Any]
) -> None:
    other = replace(small, model=replace(small.model, **change))
    outputs = measure_torch(to_module(other), TOKENS, None)
    comparisons = parity.compare_outputs("x", reference, outputs, 1e-5)
    failed = [comparison.quantity for comparison in comparisons if not comparison.passed]
    assert failed[0] == "h.0"
    assert "logits" in failed


def test_one_failed_comparison_fails_the_proof(
    small: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_bundle(small, tmp_path / "b")
    numbers = [Comparison("PyTorch", "h.0", 0.5, 1.0), Comparison("PyTorch", "h.1", 2.0, 1.0)]
    monkeypatch.setattr(parity, "compare_numbers", lambda *_: iter(numbers))
    monkeypatch.setattr(parity, "compare_tokens", lambda *_: iter([]))
    report = parity.verify(tmp_path / "b", None)
    assert not report["passed"]
    assert report["first_divergence"] == "PyTorch: h.1"


def test_a_bundle_that_changes_meanwhile_fails_the_proof(
    small: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_bundle(small, tmp_path / "b")

    def change_bundle(*_: Any) -> Any:
        tensors = {name: tensor + 1 for name, tensor in small.tensors.items()}
        save_bundle(replace(small, tensors=tensors), tmp_path / "b")
        return iter([])

    monkeypatch.setattr(parity, "compare_numbers", lambda *_: iter([]))
    monkeypatch.setattr(parity, "compare_tokens", change_bundle)
    with pytest.raises(UserError, match="changed during the comparison"):
        parity.verify(tmp_path / "b", None)


def test_a_difference_that_is_not_finite_never_passes() -> None:
    assert not Comparison("x", "y", float("nan"), 1.0).passed
    assert not Comparison("x", "y", float("inf"), 1.0).passed


def test_a_report_is_valid_only_for_the_bundle_it_was_made_for(
    small: Bundle, tmp_path: Path
) -> None:
    save_bundle(small, tmp_path / "b")
    assert read_report(tmp_path / "b") is None
    report = {"sha256": hash_bundle(tmp_path / "b"), "passed": True}
    (tmp_path / "b" / "parity.json").write_text(json.dumps(report))
    assert read_report(tmp_path / "b") == report
    config = tmp_path / "b" / "config.json"
    config.write_text(config.read_text().replace("0.001", "0.002"))
    assert read_report(tmp_path / "b") is None
    (tmp_path / "b" / "parity.json").write_text("{bad")
    with pytest.raises(UserError, match="is not JSON"):
        read_report(tmp_path / "b")


def test_an_exported_file_carries_the_proof(
    verified: Verified,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert verified.status == 0
    assert verified.output.rstrip().endswith("all runtimes agree")
    assert verified.report["passed"]
    status, out, _ = call(main.main, capsys, monkeypatch, "export", verified.directory)
    assert status == 0
    size = Path("valyrian.pt").stat().st_size
    assert out.startswith(f"valyrian.pt: {size:,} bytes, from {verified.directory}; ")
    assert "; proven equal by `python -m bridge verify`" in out
    status, out, _ = call(main.main, capsys, monkeypatch, "check", "valyrian.pt")
    assert status == 0
    assert "6 example texts reproduced; proven equal" in out


@pytest.fixture(scope="module")
def tied(make: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with one layer, a tied head and the exact GELU."""
    path = tmp_path_factory.mktemp("tied") / "b"
    save_bundle(make(tie_word_embeddings=True, activation="gelu", n_layer=1), path)
    return path


def test_the_numbers_of_a_tied_model_with_the_exact_gelu_are_equal(
    tied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its texts are compared in the next test."""
    monkeypatch.setattr(parity, "compare_tokens", lambda *_: iter([]))
    report = parity.verify(tied, None)
    assert report["passed"], report["first_divergence"]
    runtimes = {finding["runtime"] for finding in report["findings"]}
    assert runtimes == {*MODULES, "TorchScript float32"}


def test_a_large_model_is_compared_in_part_and_the_report_says_so(
    tied: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity_plan, "SMALL", 0)  # as if these weights were gigabytes
    monkeypatch.setattr(parity_plan, "READ_BYTES", 1 << 22)
    parts: list[str] = []
    report = parity.verify(tied, None, parts.append)
    assert report["passed"], report["first_divergence"]
    assert parts[0] == "writing the TorchScript file"
    assert {"JAX float32: stages and gradients", "TorchScript: 6 x 2 texts"} < {*parts}
    assert not any("float64" in finding["runtime"] for finding in report["findings"])
    texts = [finding for finding in report["findings"] if "texts of 2 that" in finding["what"]]
    assert len(texts) == 12  # PyTorch and TorchScript, with each of six settings
    assert not any("C++" in finding["runtime"] for finding in report["findings"])
    print_report(report)
    out = capsys.readouterr().out
    assert "left out: float64 and the weights after a step: they need about " in out
    assert "left out: stages and gradients beyond 1 x " in out
