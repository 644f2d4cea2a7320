"""Weights & Biases: real, offline; and never in the way."""

import io
import json
import logging
from pathlib import Path

import pytest
from rich.console import Console

from valyrian_jax import config, loop, tracker

ROOT = Path(__file__).parent.parent.parent
SHORT = {"model.vocab_size": 280, "train.steps": 20, "train.sample_every": 20}


@pytest.mark.filterwarnings("default")  # of wandb's own
def test_an_offline_run_writes_metrics_samples_and_config(small_text: Path, tmp_path: Path) -> None:
    changes = SHORT | {"data.path": str(small_text), "wandb.mode": "offline"}
    settings = config.load(ROOT / "configs" / "tiny.toml", changes)
    loop.run(settings, tmp_path / "run", console=Console(file=io.StringIO()))
    files = list((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 1
    content = files[0].read_bytes()
    for expected in (b"held_out/nats_per_token", b"train/loss", b"samples", b"n_embd"):
        assert expected in content, expected
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.filterwarnings("default")
def test_a_tracker_that_fails_is_given_up_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # A data directory that cannot be made: wandb.init raises.
    settings = config.load(overrides={"wandb.mode": "offline"})
    monkeypatch.setenv("WANDB_DATA_DIR", "/dev/null/none")
    monkeypatch.setenv("WANDB_MODE", "no such mode")
    (tmp_path / "wandb").write_text("a file where wandb wants its directory")
    with caplog.at_level(logging.WARNING):
        log = tracker.Tracker(tmp_path, settings)
        for step in range(5):
            log.log(step, {"train/loss": 1.0})
        log.log_text(5, ["text"])
        log.close()
    assert "wandb stopped" in caplog.text
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(5))


@pytest.mark.parametrize(
    ("environment", "asked", "expected"),
    [
        ({}, "auto", "off"),
        ({"WANDB_API_KEY": "x" * 40}, "auto", "online"),
        ({"WANDB_API_KEY": "x" * 40, "WANDB_MODE": "offline"}, "auto", "offline"),
        ({"WANDB_MODE": "disabled"}, "online", "off"),
        ({"WANDB_MODE": "offline"}, "off", "off"),
        ({}, "offline", "offline"),
    ],
)
def test_when_wandb_is_on(
    environment: dict[str, str], asked: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert tracker.wandb_mode(config.load(overrides={"wandb.mode": asked})) == expected


def test_being_logged_in_is_read_from_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    file = tmp_path / "netrc"
    file.write_text("machine api.wandb.ai\n  login user\n  password key\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    assert tracker.wandb_mode(config.load()) == "online"
