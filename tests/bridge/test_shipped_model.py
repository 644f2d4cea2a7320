"""The model that ships, on the side of PyTorch."""

import json
from pathlib import Path
from typing import Any

import pytest

from bridge import __main__ as main
from bridge import parity
from bridge.parity_report import read_report
from bridge.web.heat_map import HEADS_NAME, read_heat_map
from tests.support.commands import call
from tests.support.shipped_model import NOTICE, TEXTS, read_files
from valyrian_jax.bundle.bundle import load_bundle
from valyrian_jax.bundle.shipped_model import SHIPPED_MODEL


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_certificate_is_that_of_its_files() -> None:
    report = read_report(SHIPPED_MODEL)  # None if a hash differs
    assert report
    assert report["passed"]
    assert {finding["runtime"].split()[0] for finding in report["findings"]} == {
        "PyTorch",
        "TorchScript",
        "transformers",
        "C++",
    }


def test_what_its_heads_do_was_computed_from_its_weights() -> None:
    is_known = read_heat_map([SHIPPED_MODEL], load_bundle(SHIPPED_MODEL)) is not None
    assert is_known == (SHIPPED_MODEL / HEADS_NAME).exists()


@pytest.mark.parametrize(("prompt", "seed"), TEXTS)
def test_generate_gives_the_same_texts_as_jax(
    prompt: str, seed: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--prompt", prompt, "--seed", seed)
    taken = call(main.main, capsys, monkeypatch, "generate", *options)
    assert taken == (0, TEXTS[prompt, seed] + "\n", NOTICE)


def test_verify_writes_nothing_into_it(
    empty: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = {"runtime": "PyTorch", "what": "h.0", "difference": 0.0, "allowed": 1.0}
    report: dict[str, Any] = {"passed": True, "first_divergence": None, "left_out": []}
    report["findings"] = [finding | {"passed": True}]
    monkeypatch.setattr(parity, "verify", lambda *_: report)
    before = read_files()
    status, out, err = call(main.main, capsys, monkeypatch, "verify", "--json")
    assert (status, json.loads(out)) == (0, report)
    assert err.startswith(NOTICE)
    reason = "the model that ships has its own; --json prints this one"
    assert f"not written: {SHIPPED_MODEL / 'parity.json'} ({reason})\n" in err
    assert read_files() == before
    assert list(empty.iterdir()) == []
