"""Weights & Biases: real, offline; and never in the way."""

import contextlib
import io
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.tiny import TINY
from valyrian_jax.config import Config, load_config
from valyrian_jax.run_directory import read_metrics, save_config
from valyrian_jax.training.metrics import MetricsLogger, resolve_wandb_mode
from valyrian_jax.training.run import train

ROOT = Path(__file__).parents[2]


def test_an_offline_run_writes_metrics_samples_and_config(small_text: Path, tmp_path: Path) -> None:
    changes = TINY | {
        "train.sample_every": 60,
        "data.path": str(small_text),
        "wandb.mode": "offline",
    }
    settings = load_config(ROOT / "configs" / "tiny.toml", changes)
    train(settings, tmp_path / "run", console=Console(file=io.StringIO()))
    files = list((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 1
    content = files[0].read_bytes()
    for expected in (b"held_out/nats_per_token", b"train/loss", b"samples", b"n_embd"):
        assert expected in content, expected
    (picture,) = files[0].parent.glob("files/media/images/attention_60_*.png")
    width, height = struct.unpack(">II", picture.read_bytes()[16:24])
    assert min(width, height) > 400
    assert not list((tmp_path / "run" / "wandb").glob("*.npz"))  # drawn, and gone
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 7


def log_something(directory: Path, settings: Config, seconds: float = 30) -> None:
    save_config(directory, settings)
    log = MetricsLogger(directory, settings)
    for step in range(5):
        log.log(step, {"train/loss": 1.0})
    log.log_text(5, ["text"])
    log.close(seconds)
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(6))


def test_a_tracker_that_fails_is_reported_and_nothing_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wandb").write_text("a file where wandb wants its directory")
    log_something(tmp_path, load_config(overrides={"wandb.mode": "offline"}))
    assert "wandb.log may say why, metrics.jsonl is complete" in capsys.readouterr().err
    assert "Error" in (tmp_path / "wandb.log").read_text()


def test_a_tracker_whose_server_never_answers_is_ended_with_all_it_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        silent.settimeout(60)
        log = online(silent, tmp_path, monkeypatch)
        with silent.accept()[0]:  # it has asked
            assert log._uploader
            mine = f"--pid {log._uploader.pid}"
            started = [
                int(process.name)
                for process in Path("/proc").glob("[0-9]*")
                if mine in command_of(process)
            ]
            log.close(1)
    assert "did not finish" in capsys.readouterr().err
    assert started
    for pid in started:  # each ends by itself, when it sees that the uploader has
        with contextlib.suppress(ProcessLookupError):
            assert select.select([os.pidfd_open(pid)], [], [], 60)[0]


def online(
    server: socket.socket, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> MetricsLogger:
    """A tracker that is logged in to a server."""
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    settings = load_config(overrides={"wandb.mode": "online"})
    save_config(directory, settings)
    return MetricsLogger(directory, settings)


def command_of(process: Path) -> str:
    try:
        return (process / "cmdline").read_text().replace("\0", " ")
    except OSError:  # it has just ended
        return ""


def test_a_tracker_whose_network_breaks_or_that_is_killed_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        log = online(server, tmp_path, monkeypatch)
        server.accept()[0].close()
    log.log(1, {"train/loss": 1.0})  # from here on, nobody listens
    log.close(1)
    assert "metrics.jsonl is complete" in capsys.readouterr().err

    log = MetricsLogger(tmp_path, load_config(overrides={"wandb.mode": "offline"}))
    assert log._uploader
    os.killpg(log._uploader.pid, signal.SIGKILL)
    log.log(2, {"train/loss": 1.0})
    log.close(1)
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2]
    assert "metrics.jsonl is complete" in capsys.readouterr().err


def test_a_tracker_that_cannot_start_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb.log").mkdir()
    log = MetricsLogger(tmp_path, load_config(overrides={"wandb.mode": "offline"}))
    log.log(1, {"train/loss": 1.0})
    log.close(1)
    assert "wandb could not be started" in capsys.readouterr().err
    assert len(list(read_metrics(tmp_path))) == 1


def test_an_uploader_that_hangs_ends_when_its_training_has_died(tmp_path: Path) -> None:
    endless = "import time; from valyrian_jax.training.wandb_uploader import end_with_input; end_with_input(0.1); time.sleep(600)"
    uploader = subprocess.Popen(
        [sys.executable, "-c", endless], stdin=subprocess.PIPE, start_new_session=True
    )
    assert uploader.stdin
    uploader.stdin.close()  # as the system does for a process that dies
    assert uploader.wait(60) == -signal.SIGKILL


def test_every_line_is_json_whatever_the_numbers(tmp_path: Path) -> None:
    log = MetricsLogger(tmp_path, load_config(overrides={"wandb.mode": "off"}))
    log.log(1, {"a": float("nan"), "b": float("-inf"), "c": 1.5})
    log.close(1)
    assert (
        tmp_path / "metrics.jsonl"
    ).read_text() == '{"step": 1, "a": null, "b": null, "c": 1.5}\n'


def test_online_without_a_login_asks_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_something(tmp_path, load_config(overrides={"wandb.mode": "online"}))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1


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
    assert resolve_wandb_mode(load_config(overrides={"wandb.mode": asked})) == expected


def test_being_logged_in_is_read_from_netrc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    file = tmp_path / "netrc"
    file.write_text("machine api.wandb.ai\n  login user\n  password key\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    assert resolve_wandb_mode(load_config()) == "online"
    file.write_bytes(b"machine \xff")
    assert resolve_wandb_mode(load_config()) == "off"
