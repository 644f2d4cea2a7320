"""The log of a run, and Weights & Biases: used offline, and never able to disturb a run."""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.full_disk import file_size_limit
from tests.support.runs import ROOT, load_tiny_config, make_text_console
from valyrian_jax.config import Config, load_config
from valyrian_jax.run_directory import read_metrics, save_config
from valyrian_jax.training.metrics import MetricsLogger, resolve_wandb_mode
from valyrian_jax.training.run import train


def test_an_offline_run_uploads_metrics_samples_and_config(
    small_text: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    config = load_tiny_config(small_text, **{"train.sample_every": 60, "wandb.mode": "offline"})
    train(config, run, console=make_text_console())
    (file,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    content = file.read_bytes()
    for expected in (b"held_out/nats_per_token", b"train/loss", b"samples", b"n_embd"):
        assert expected in content, expected
    (picture,) = file.parent.glob("files/media/images/attention_60_*.png")
    width, height = struct.unpack(">II", picture.read_bytes()[16:24])
    assert min(width, height) > 400
    assert not list((run / "wandb").glob("*.npz"))  # The uploader deletes what it has drawn.
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 7


def write_log(directory: Path, config: Config) -> None:
    save_config(directory, config)
    logger = MetricsLogger(directory, config)
    for step in range(5):
        logger.log(step, {"train/loss": 1.0})
    logger.log_text(5, ["text"])
    logger.close(30)
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(6))


def test_an_uploader_that_fails_is_reported_and_the_log_is_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wandb").write_text("a file where wandb wants its directory")
    write_log(tmp_path, load_config(overrides={"wandb.mode": "offline"}))
    assert "see wandb.log; metrics.jsonl is complete" in capsys.readouterr().err
    assert "Error" in (tmp_path / "wandb.log").read_text()


def start_online(
    server: socket.socket, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> MetricsLogger:
    """Return a logger whose uploader is logged in to a server."""
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    config = load_config(overrides={"wandb.mode": "online"})
    save_config(directory, config)
    return MetricsLogger(directory, config)


def read_command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text().replace("\0", " ")
    except OSError:  # The process has just ended.
        return ""


def test_an_uploader_whose_server_is_silent_is_killed_with_its_children(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        logger = start_online(server, tmp_path, monkeypatch)
        with server.accept()[0]:  # The uploader has connected and waits for an answer.
            assert logger._uploader
            argument = f"--pid {logger._uploader.pid}"
            children = [
                int(process.name)
                for process in Path("/proc").glob("[0-9]*")
                if argument in read_command(process)
            ]
            logger.close(1)
    assert "did not finish" in capsys.readouterr().err
    assert children
    for pid in children:  # Each ends when it notices that the uploader has ended.
        with contextlib.suppress(ProcessLookupError):
            assert select.select([os.pidfd_open(pid)], [], [], 60)[0]


def test_a_broken_network_or_a_killed_uploader_loses_no_metrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        logger = start_online(server, tmp_path, monkeypatch)
        server.accept()[0].close()
    logger.log(1, {"train/loss": 1.0})  # Nobody listens any more.
    logger.close(1)
    assert "metrics.jsonl is complete" in capsys.readouterr().err

    logger = MetricsLogger(tmp_path, load_config(overrides={"wandb.mode": "offline"}))
    assert logger._uploader
    os.killpg(logger._uploader.pid, signal.SIGKILL)
    logger.log(2, {"train/loss": 1.0})
    logger.close(1)
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2]
    assert "metrics.jsonl is complete" in capsys.readouterr().err


def test_an_uploader_that_cannot_start_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wandb.log").mkdir()
    logger = MetricsLogger(tmp_path, load_config(overrides={"wandb.mode": "offline"}))
    logger.log(1, {"train/loss": 1.0})
    logger.close(1)
    assert "cannot start wandb" in capsys.readouterr().err
    assert len(list(read_metrics(tmp_path))) == 1


OPEN_LOGGER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from valyrian_jax.config import load_config
from valyrian_jax.training.metrics import MetricsLogger

MetricsLogger(Path(sys.argv[2]), load_config(overrides={"wandb.mode": "offline"})).close(60)
"""


@pytest.mark.parametrize("has_other_package", [False, True])
def test_the_uploader_is_that_of_this_package_wherever_the_run_was_started(
    has_other_package: bool, tmp_path: Path
) -> None:
    copy, home, run = tmp_path / "copy", tmp_path / "home", tmp_path / "run"
    shutil.copytree(ROOT / "valyrian_jax", copy / "valyrian_jax")  # It is not installed.
    uploader = copy / "valyrian_jax" / "training" / "wandb_uploader.py"
    uploader.write_text("print(__file__)", encoding="utf-8")
    home.mkdir()
    run.mkdir()
    if has_other_package:
        (home / "valyrian_jax").mkdir()
        (home / "valyrian_jax" / "__init__.py").write_text("raise ImportError")
    subprocess.run(
        [sys.executable, "-P", "-c", OPEN_LOGGER, copy, run],
        cwd=home,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        check=True,
        timeout=120,
    )
    assert (run / "wandb.log").read_text() == f"{uploader}\n"


def test_an_uploader_that_hangs_ends_after_its_training_process(tmp_path: Path) -> None:
    module = "valyrian_jax.training.wandb_uploader"
    code = (
        f"import time, {module} as uploader; uploader.kill_after_input_closes(0.1); time.sleep(600)"
    )
    uploader = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, start_new_session=True
    )
    assert uploader.stdin
    uploader.stdin.close()  # The system does so when the training process dies.
    assert uploader.wait(60) == -signal.SIGKILL


def test_every_line_is_json_even_for_numbers_that_are_not_finite(tmp_path: Path) -> None:
    logger = MetricsLogger(tmp_path, load_config(overrides={"wandb.mode": "off"}))
    logger.log(1, {"a": float("nan"), "b": float("-inf"), "c": 1.5})
    logger.close(1)
    line = (tmp_path / "metrics.jsonl").read_text()
    assert line == '{"step": 1, "a": null, "b": null, "c": 1.5}\n'


def test_a_line_that_cannot_be_written_names_its_file(tmp_path: Path) -> None:
    logger = MetricsLogger(tmp_path, load_config(overrides={"wandb.mode": "off"}))
    expected = r"File too large: '.*/metrics.jsonl'$"
    with file_size_limit(10), pytest.raises(OSError, match=expected):
        logger.log(1, {"loss": 1.5})
    logger.close(1)


def test_online_without_a_login_asks_no_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(tmp_path, load_config(overrides={"wandb.mode": "online"}))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("environment", "configured", "expected"),
    [
        ({}, "auto", "off"),
        ({"WANDB_API_KEY": "x" * 40}, "auto", "online"),
        ({"WANDB_API_KEY": "x" * 40, "WANDB_MODE": "offline"}, "auto", "offline"),
        ({"WANDB_MODE": "disabled"}, "online", "off"),
        ({"WANDB_MODE": "offline"}, "off", "off"),
        ({}, "offline", "offline"),
    ],
)
def test_the_environment_and_the_configuration_choose_the_mode(
    environment: dict[str, str],
    configured: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert resolve_wandb_mode(load_config(overrides={"wandb.mode": configured})) == expected


def test_a_login_in_netrc_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    file = tmp_path / "netrc"
    file.write_text("machine api.wandb.ai\n  login user\n  password key\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    assert resolve_wandb_mode(load_config()) == "online"
    file.write_bytes(b"machine \xff")
    assert resolve_wandb_mode(load_config()) == "off"
