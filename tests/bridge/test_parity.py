"""The proof passes for equal models, and for no others."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bridge import __main__ as main
from bridge import parity
from bridge.gpt import to_module
from bridge.parity import Comparison
from tests.bridge.conftest import Proven
from tests.support.commands import call
from valyrian_jax.bundle.bundle import Bundle, save_bundle
from valyrian_jax.config import OptimConfig
from valyrian_jax.errors import UserError


def test_all_runtimes_agree_and_each_was_asked(
    proven: Proven, program: Path, small: Bundle
) -> None:
    report = proven.report
    assert report["passed"]
    assert report["first_divergence"] is None
    found = {(finding["runtime"], finding["what"]) for finding in report["findings"]}
    for runtime in (
        "PyTorch float32",
        "PyTorch float64",
        "transformers float32",
        "transformers float64",
    ):
        for stage in (
            "embedding",
            "h.0",
            "h.1",
            "ln_f",
            "logits",
            "KL, largest",
            "top-1, share that differs",
        ):
            assert (runtime, stage) in found
        assert {(runtime, f"gradient: {name}") for name in small.tensors} <= found
    for runtime in ("PyTorch float64", "transformers float64"):
        assert {(runtime, f"weights after a step: {name}") for name in small.tensors} <= found
    assert ("TorchScript float32", "logits") in found
    for runtime in ("PyTorch", "TorchScript", "C++"):
        assert sum(r == runtime and "texts of 8 that differ" in what for r, what in found) == 4


def test_the_tolerances_are_those_that_are_promised(proven: Proven) -> None:
    for finding in proven.report["findings"]:
        if finding["what"] == "logits":
            relative = 1e-5 if "float32" in finding["runtime"] else 1e-12
            assert (
                relative <= finding["allowed"] <= relative * 60
            )  # the largest logit of this model is about 50


# Those of `verify`, so that what it compiled need not be compiled again.
TOKENS = np.random.default_rng(0).permutation(np.arange(8 * 24) % 300).reshape(8, 24)
ADAMW = OptimConfig(nesterov=False)  # torch's AdamW has no Nesterov momentum


def differences(
    source: Bundle, module: torch.nn.Module, expected: parity.RuntimeOutputs
) -> list[Comparison]:
    found = parity.measure_torch(module, TOKENS, ADAMW)
    numbers = parity.compare("x", expected, found, 1e-12)
    steps = parity.compare_step("x", expected, found, 1e-12, ADAMW.lr)
    return [finding for finding in (*numbers, *steps) if not finding.passed]


def test_every_single_weight_matters(small: Bundle) -> None:
    expected = parity.measure_jax(small, TOKENS, ADAMW, "float64")
    assert not differences(small, to_module(small).double(), expected)
    draw = np.random.default_rng(1)
    for name, tensor in small.tensors.items():
        changed = tensor.copy()
        changed.reshape(-1)[draw.integers(tensor.size)] += 1e-6
        other = Bundle(small.model, {**small.tensors, name: changed}, small.tokenizer)
        failed = differences(small, to_module(other).double(), expected)
        assert failed, name
        if name.startswith("transformer.h.1.mlp"):
            assert failed[0].what == "h.1", "the first place is the block with the change"


@pytest.mark.parametrize(
    "change",
    [{"activation": "gelu"}, {"layer_norm_epsilon": 1e-5}, {"n_head": 4}, {"n_head": 2}],
    ids=str,
)
def test_every_choice_of_the_configuration_matters(
    make: Callable[..., Bundle], change: dict[str, Any]
) -> None:
    source = make()
    expected = parity.measure_jax(source, TOKENS, ADAMW, "float32")
    other = replace(source, model=replace(source.model, **change))
    found = parity.measure_torch(to_module(other), TOKENS, ADAMW)
    failed = [
        finding.what for finding in parity.compare("x", expected, found, 1e-5) if not finding.passed
    ]
    assert failed[0] == "h.0"
    assert "logits" in failed


def test_one_disagreement_fails_the_proof_and_so_does_a_bundle_that_changed(
    small: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_bundle(small, tmp_path / "b")
    numbers = [Comparison("PyTorch", "h.0", 0.5, 1.0), Comparison("PyTorch", "h.1", 2.0, 1.0)]
    monkeypatch.setattr(parity, "compare_numbers", lambda *_: iter(numbers))
    monkeypatch.setattr(parity, "compare_tokens", lambda *_: iter([]))
    found = parity.verify(tmp_path / "b", None)
    assert not found["passed"]
    assert found["first_divergence"] == "PyTorch: h.1"

    def meanwhile(*_: Any) -> Any:
        save_bundle(
            replace(small, tensors={name: tensor + 1 for name, tensor in small.tensors.items()}),
            tmp_path / "b",
        )
        return iter([])

    monkeypatch.setattr(parity, "compare_tokens", meanwhile)
    with pytest.raises(UserError, match="was replaced meanwhile"):
        parity.verify(tmp_path / "b", None)


def test_what_is_not_a_number_never_passes() -> None:
    assert not Comparison("x", "y", float("nan"), 1.0).passed
    assert not Comparison("x", "y", float("inf"), 1.0).passed


def test_a_tied_model_with_the_exact_gelu_agrees_too(
    make: Callable[..., Bundle], tmp_path: Path
) -> None:
    source = make(tie_word_embeddings=True, activation="gelu", n_layer=1)
    save_bundle(source, tmp_path / "b")
    report = parity.verify(tmp_path / "b", None)
    assert report["passed"], report["first_divergence"]
    assert not any("C++" in finding["runtime"] for finding in report["findings"])


def test_verify_export_and_check(
    proven: Proven,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert proven.status == 0
    assert proven.out.rstrip().endswith("all runtimes agree")
    assert proven.report["passed"]
    status, out, _ = call(main.main, capsys, monkeypatch, "export", proven.directory)
    assert status == 0
    size = Path("valyrian.pt").stat().st_size
    assert out.startswith(f"valyrian.pt from {proven.directory}: {size:,} bytes, ")
    assert "; proven equal by `python -m bridge verify`" in out
    status, out, _ = call(main.main, capsys, monkeypatch, "check", "valyrian.pt")
    assert status == 0
    assert "4 of 4 example texts came out the same; proven equal" in out
