"""The command train: what it records, how it ends, and mistakes, which leave no files."""

import re
import signal
from pathlib import Path

import jax
import pytest

import train
from tests.support.commands import (
    TINY_CONFIG,
    assert_one_line_error,
    call,
    start_training,
)
from valyrian_jax.bundle.bundle import load_bundle
from valyrian_jax.training import checkpoint


def test_a_checkpoint_records_how_it_was_computed(run: Path) -> None:
    metadata = checkpoint.find_newest(run / "checkpoints").metadata
    assert metadata.config["train"]["deterministic"] is True
    assert metadata.versions["XLA_FLAGS"].count("--xla_gpu_deterministic_ops=true") == 1
    assert metadata.versions["jax"] == jax.__version__
    assert load_bundle(run / "bundle").manifest["versions"] == metadata.versions


def test_sigterm_ends_training_with_the_command_that_resumes_it(
    small_text: Path, tmp_path: Path
) -> None:
    endless = ["--train.steps=1000000", "--train.checkpoint_every=1000000"]
    process = start_training(tmp_path, small_text, "runs/stopped", *endless)
    assert process.stdout
    assert process.stderr
    assert any(line.startswith("step ") for line in process.stdout)  # It is training now.
    process.stdout.close()  # as in `train.py | tee log`, where Ctrl-C ends both
    process.terminate()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 128 + signal.SIGTERM
    message = re.search(
        r"^stopped at step (\d+) \(SIGTERM\); saved; .* valyrian_jax train --resume runs/stopped$",
        err,
        re.M,
    )
    assert message
    assert (tmp_path / "runs" / "stopped" / "checkpoints" / message[1]).is_dir()


TRAIN_MISTAKES: list[tuple[list[str], str]] = [
    (
        ["--optim.lrr", "1"],
        "No such option '--optim.lrr'. Did you mean --optim.lr or",
    ),
    (["--optim.lr", "fast"], "Invalid value for '--optim.lr': 'fast' is not a number\n"),
    (["--optim.lr", "0,1"], "Invalid value for '--optim.lr': '0,1' is not a number; write 0.1\n"),
    (
        ["--processes", "0"],
        "Invalid value for '--processes': 0 is not a whole number of at least 1",
    ),
    (["--train.steps", "1.5"], "'1.5' is not a whole number\n"),
    (["--lr", "1e-3"], "No such option '--lr'. Did you mean --optim.lr?"),
    (["--seed", "1"], "No such option '--seed'. Did you mean --train.seed or --sample.seed?"),
    (["--data.path", "The old dragon."], "; a text itself goes into a file"),
    (["--data.path", "The old dragon." * 500], "...: File name too long; expected the name of a"),
    (["--model.n_head", "3"], "model.n_head = 3 must divide model.n_embd = 32"),
    (
        ["--model.vocab_size", "200"],
        "model.vocab_size = 200: input should be greater than or equal to 257",
    ),
    (
        ["--model.vocab_size", "60000"],
        "tokens of vocabulary, but model.vocab_size = 60000; use more text, or set",
    ),
    (
        ["--model.n_positions", "9000", "--train.batch_size", "1"],
        "tokens, but model.n_positions = 9000 needs at least 9001; use more text, or set",
    ),
    (["--train.device", "gpu"], "train.device = gpu, but JAX finds only: cpu"),
    (["--data.path", "none.txt"], "cannot read the text none.txt: No such file"),
    (["--data.path", "empty.txt"], "the text empty.txt is empty"),
    (["--data.path", "latin.txt"], "the text latin.txt is not UTF-8: byte 0xf1"),
    (
        ["--data.path", "short.txt"],
        "tokens of vocabulary, but model.vocab_size = 300; the",
    ),
    (["--data.path", "letter.txt"], "too short to hold out a part: expected at least 2 characters"),
    (["--data.path", "."], "cannot read the text .: Is a directory"),
    (["--data.path", "/dev/zero"], "expected a file or a pipe, found a device"),
    (["--data.separator", "re:x*"], "matches between all characters"),
    (["--data.path", "one.json"], "is one value of JSON over several lines; expected one object"),
    (["--data.tokenizer", "empty.txt"], "empty.txt is not JSON"),
    (["--config", "none.toml"], "cannot read the configuration none.toml: No such file"),
    (["--out", "/dev/null/run"], "cannot write the directory /dev/null/run: Not a directory"),
    (["--init", "nowhere"], "nowhere is not a run directory: expected a run or a bundle"),
    (
        ["--init", "nowhere", "--model.n_layer", "3"],
        "model.n_layer cannot be combined with init",
    ),
    (["--resume", "nowhere"], "nowhere is not a run directory"),
    (["--optim.clip_norm", "inf"], "optim.clip_norm = inf"),
    (["--train.steps", "100000000000000000000"], "input should be less than"),
    (
        ["--out", "."],
        "cannot start a run in .: expected a new or empty directory, found empty.txt, latin.txt",
    ),
    (["quick"], "Got unexpected extra argument (quick); did you mean --config quick?"),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    TRAIN_MISTAKES,
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_mistakes_in_training_end_in_one_line_and_leave_no_files(
    arguments: list[str],
    message: str,
    small_text: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_bytes(b" \n")
    Path("latin.txt").write_bytes(b"a \xf1 b")
    Path("short.txt").write_text("two words")
    Path("letter.txt").write_text("a")
    Path("one.json").write_text('{\n "text": "a"\n}\n')
    before = set(tmp_path.iterdir())
    config = [] if {"--config", "--resume"} & {*arguments} else ["--config", TINY_CONFIG]
    data = [] if {"--resume", "--data.path"} & {*arguments} else ["--data.path", small_text]
    status, out, err = call(train.main, capsys, monkeypatch, *config, *data, *arguments)
    assert (status, out) == (2, "")
    assert_one_line_error(err, message)
    assert set(tmp_path.iterdir()) == before


def test_help_begins_with_what_most_runs_need_and_lists_every_option_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = call(train.main, capsys, monkeypatch, "--help")[1]
    options = out.partition("\nOptions:")[2]
    topics = re.split(r"^(\S.*):$", options, flags=re.MULTILINE)
    assert len(re.findall("^  -", topics[0], re.MULTILINE)) < 15
    assert all(name in topics[0] for name in ("--config", "--data.path", "--train.steps", "--help"))
    assert topics[1::2][0] == "Text"
    assert topics[-2] == "Several devices and processes"
    assert "--mesh.data" in topics[-1]
    listed = re.findall(r"^  (--[\w.]+)", options, re.MULTILINE)
    assert sorted(listed) == sorted(["--help", *(param.opts[0] for param in train.main.params)])


def test_a_second_run_in_one_directory_is_refused(
    run: Path, small_text: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    status, _, err = call(train.main, capsys, monkeypatch, "--data.path", small_text, "--out", run)
    assert status == 2
    assert "already holds a run; resume it with --resume" in err
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
