"""The command `plan`: its table, its JSON, its warning, and mistakes in one line."""

import json

import pytest

from tests.support.commands import assert_one_line_error, call
from valyrian_jax.cli.main import main


def run_plan(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setenv("COLUMNS", "200")
    return call(main, capsys, monkeypatch, "plan", *arguments)


def test_the_table_and_the_json_show_the_same_plan(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--config", "gpt2-124m", "--devices", "8", "--device", "h100")
    status, table, _ = run_plan(capsys, monkeypatch, *arguments)
    assert status == 0
    record = json.loads(run_plan(capsys, monkeypatch, *arguments, "--json")[1])
    assert record["fits"]
    assert record["device"] == "NVIDIA H100 80GB HBM3"
    assert f"{record['parameters']:,}" in table
    assert f"{record['tokens_per_second']:,.0f} tokens/s" in table
    assert record["layout"]["mesh"] == {"data": 8, "fsdp": 1, "tensor": 1}
    assert record["layout"]["memory"]["training"] > record["with_remat"]["memory"]["training"]
    assert f"--train.accumulate {record['recommended']['accumulate']} " in table


def test_settings_override_the_preset(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--config", "gpt2-124m", "--train.steps", "10", "--train.remat", "true", "--json")
    record = json.loads(run_plan(capsys, monkeypatch, *arguments)[1])
    assert record["tokens"] == 10 * 512 * 1024
    assert record["layout"]["remat"]


@pytest.mark.parametrize(
    ("devices", "advice"),
    [("8", "train with --mesh.data"), ("1", "use more devices, or a smaller model or batch")],
)
def test_a_model_that_does_not_fit_is_warned_of(
    devices: str,
    advice: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = ("--config", "gpt2-1.5b", "--device", "a10", "--devices", devices)
    status, out, _ = run_plan(capsys, monkeypatch, *arguments)
    assert status == 0
    words = " ".join(out.split())
    assert "warning: this does not fit: a step needs " in words
    assert advice in words


def test_a_small_model_is_said_to_be_slower_than_its_arithmetic(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {
        name: " ".join(run_plan(capsys, monkeypatch, "--config", name)[1].split())
        for name in ("valyrian", "gpt2-124m")
    }
    assert "expect a lower speed: measure a short run" in words["valyrian"]
    assert "expect a lower speed" not in words["gpt2-124m"]
    assert (" minutes " in words["valyrian"], " hours " in words["gpt2-124m"]) == (True, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--device", "h10"), "did you mean h100?"),
        (("--devices", "3"), "cannot shard train.batch_size"),
        (("--mfu", "1.5"), "1.5"),
        (("--config", "gpt2-124x"), "no configuration 'gpt2-124x'"),
    ],
)
def test_mistakes_are_one_line(
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status, _, err = run_plan(capsys, monkeypatch, *arguments)
    assert status == 2
    assert_one_line_error(err, message)
