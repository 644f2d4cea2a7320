"""The command lines as a user meets them: what works, and one line for every mistake."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

import train
from tests.support.commands import call
from tests.support.tiny import TINY
from valyrian_jax import __main__ as main
from valyrian_jax.bundle.bundle import load_bundle
from valyrian_jax.bundle.text_generation import generate_texts
from valyrian_jax.cli.options import run_command
from valyrian_jax.config import SampleConfig
from valyrian_jax.generation.generate import stream_tokens
from valyrian_jax.training import checkpoint

ROOT = Path(__file__).parents[2]
QUICK = [
    part
    for key, value in {**TINY, "train.sample_every": 0}.items()
    for part in (f"--{key}", str(value))
]


@pytest.fixture(scope="module")
def run(small_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run made by the real program in a process of its own, under runs/ of an empty directory."""
    home = tmp_path_factory.mktemp("home")
    tiny = ROOT / "configs" / "tiny.toml"
    arguments = [
        "--config",
        tiny,
        "--data.path",
        small_text,
        "--out",
        "runs/first",
        "--deterministic",
        *QUICK,
    ]
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", *arguments],
        cwd=home,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for shown in (
        "device    cpu",
        "parameters",
        "weight decay 0.1 on",
        "held out",
        "bits per byte",
        "next      python -m",
    ):
        assert shown in done.stdout
    return home / "runs" / "first"


def test_a_checkpoint_says_what_it_was_computed_with(run: Path) -> None:
    record = checkpoint.find_newest(run / "checkpoints").metadata
    assert record.config["train"]["deterministic"] is True
    assert record.versions["XLA_FLAGS"].count("--xla_gpu_deterministic_ops=true") == 1
    assert record.versions["jax"] == jax.__version__
    assert load_bundle(run / "bundle").manifest["versions"] == record.versions


def test_sample_streams_the_text_of_the_sampler(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent.parent)  # the newest run is found
    best = load_bundle(run / "bundle")
    from valyrian_jax.model.parameters import from_tensors

    generate = functools.partial(stream_tokens, from_tensors(best.tensors), best.model)
    settings = SampleConfig(prompt="the dragon", seed=7, max_new_tokens=60)
    expected = generate_texts(generate, best.tokenizer, settings)[0]
    options = ["--prompt", "the dragon", "--seed", 7, "--max-new-tokens", 60]
    assert call(main.main, capsys, monkeypatch, "sample", *options) == (0, expected + "\n", "")
    status, out, _ = call(
        main.main, capsys, monkeypatch, "sample", run, *options, "--num-samples", 2, "--json"
    )
    assert status == 0
    assert json.loads(out.splitlines()[0]) == {"seed": 7, "text": expected}
    assert len(out.splitlines()) == 2


def test_sample_takes_long_and_empty_prompts_and_bundles(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "the dragon sees a wolf " * 40
    status, out, _ = call(
        main.main, capsys, monkeypatch, "sample", run / "bundle", "--prompt", long
    )
    assert status == 0
    assert out.startswith(long)
    assert call(main.main, capsys, monkeypatch, "sample", run)[0] == 0


def test_eval_and_plot(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, _ = call(main.main, capsys, monkeypatch, "eval", run, "--json")
    assert status == 0
    manifest = load_bundle(run / "bundle").manifest
    assert json.loads(out)["bits_per_byte"] == pytest.approx(manifest["held_out"]["bits_per_byte"])
    (run / "loss.png").unlink()
    assert call(main.main, capsys, monkeypatch, "plot", run) == (
        0,
        f"{run}/loss.png\n{run}/loss.svg\n",
        "",
    )
    assert (run / "loss.png").exists()


def test_tokenizer_commands_go_around(
    small_text: Path, tmp_path: Path, capfdbinary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary, ids = tmp_path / "tokenizer.json", tmp_path / "ids.txt"
    binary = tmp_path / "any.bin"
    binary.write_bytes(bytes(range(256)) * 3)
    assert (
        call(
            main.main,
            capfdbinary,
            monkeypatch,
            "tokenizer",
            "train",
            small_text,
            "--vocab-size",
            270,
            "-o",
            vocabulary,
        )[0]
        == 0
    )
    status, out, _ = call(
        main.main, capfdbinary, monkeypatch, "tokenizer", "encode", vocabulary, binary
    )
    assert status == 0
    ids.write_bytes(out)
    assert (
        call(main.main, capfdbinary, monkeypatch, "tokenizer", "decode", vocabulary, ids)[1]
        == binary.read_bytes()
    )


def test_corpus_writes_the_same_text_every_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["corpus", "--sentences", 50, "--seed", 3]
    status, out, _ = call(main.main, capsys, monkeypatch, *arguments)
    assert status == 0
    assert call(main.main, capsys, monkeypatch, *arguments, "-o", tmp_path / "c.txt")[0] == 0
    assert (tmp_path / "c.txt").read_text(encoding="utf-8") == out


@pytest.mark.parametrize("word", ["zaldrīzes", "kara", "jorrāelagon", "se"])
def test_language_prints_the_same_forms_as_a_table_and_as_json(
    word: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, _ = call(main.main, capsys, monkeypatch, "language", "--table", word, "--json")
    assert status == 0
    (record,) = map(json.loads, out.splitlines())
    assert record["lemma"] == word
    marked = [form["text"] + "°" * (not form["sure"]) for form in record["forms"]]
    table = call(main.main, capsys, monkeypatch, "language", "--table", word)[1]
    cells = [
        cell
        for line in table.splitlines()[2:]
        for cell in re.split(r"  +", line)[1:]
        if cell not in ("", "—")
    ]
    assert sorted(marked) == sorted(cells or [word])


def test_sigterm_ends_training_with_the_line_that_resumes_it(run: Path, small_text: Path) -> None:
    arguments = [
        "--config",
        ROOT / "configs" / "tiny.toml",
        "--data.path",
        small_text,
        "--out",
        "runs/stopped",
        *QUICK,
    ]
    endless = [*arguments, "--train.steps", "1000000", "--train.checkpoint_every", "1000000"]
    process = subprocess.Popen(
        [sys.executable, "-u", ROOT / "train.py", *endless],
        cwd=run.parent.parent,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stderr
    assert any(line.startswith("step ") for line in process.stdout)  # trains now
    process.stdout.close()  # as in `train.py | tee log`, where Ctrl-C ends both
    process.terminate()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 128 + signal.SIGTERM
    stopped = re.search(
        r"^stopped at step (\d+) \(SIGTERM\); saved; .* python train.py --resume runs/stopped$",
        said,
        re.M,
    )
    assert stopped
    assert (run.parent / "stopped" / "checkpoints" / stopped[1]).is_dir()


MISTAKES: list[tuple[list[str], str]] = [
    (
        ["--optim.lrr", "1"],
        "No such option '--optim.lrr'. (Did you mean one of: '--optim.clip_norm', '--optim.lr'",
    ),
    (["--optim.lr", "fast"], "Invalid value for '--optim.lr': 'fast' is not a valid float"),
    (["--model.n_head", "3"], "model.n_head = 3 must divide model.n_embd = 32"),
    (
        ["--model.vocab_size", "200"],
        "model.vocab_size = 200: input should be greater than or equal to 257",
    ),
    (
        ["--model.vocab_size", "60000"],
        "vocabulary size 60000 cannot be filled: the text yields at most",
    ),
    (["--model.n_positions", "100000"], "at least 100001 tokens for model.n_positions = 100000"),
    (["--train.device", "gpu"], "train.device = gpu, but JAX sees only: cpu"),
    (["--data.path", "none.txt"], "cannot read the text none.txt: No such file"),
    (["--data.path", "empty.txt"], "the text empty.txt is empty"),
    (["--data.path", "latin.txt"], "the text latin.txt is not UTF-8: byte 0xf1"),
    (["--data.path", "short.txt"], "too short to hold a part of it out: 2 words"),
    (["--data.path", "."], "cannot read the text .: Is a directory"),
    (["--data.tokenizer", "empty.txt"], "empty.txt is not JSON"),
    (["--config", "none.toml"], "cannot read the configuration none.toml: No such file"),
    (["--out", "/dev/null/run"], "cannot write the run directory /dev/null/run: Not a directory"),
    (["--init", "nowhere"], "no bundle at nowhere"),
    (["--init", "nowhere", "--model.n_layer", "3"], "--model.n_layer cannot be chosen with --init"),
    (["--resume", "nowhere"], "nowhere is not a run directory"),
    (["--optim.clip_norm", "inf"], "optim.clip_norm = inf"),
    (["--train.steps", "100000000000000000000"], "input should be less than"),
    (["--out", "."], ". is not empty; choose another --out"),
    (["stray"], "Got unexpected extra argument (stray)"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), MISTAKES, ids=lambda a: a[0] if isinstance(a, list) else ""
)
def test_mistakes_in_training_end_in_one_line(
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
    before = set(tmp_path.iterdir())
    tiny = ["--config", str(ROOT / "configs" / "tiny.toml")] if "--config" not in arguments else []
    given = [] if {"--resume", "--data.path"} & {*arguments} else ["--data.path", str(small_text)]
    if "--resume" in arguments:
        tiny = []
    status, out, err = call(train.main, capsys, monkeypatch, *tiny, *given, *arguments)
    assert status == 2
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert out == ""
    assert set(tmp_path.iterdir()) == before  # nothing half-made


COMMAND_MISTAKES: list[tuple[list[str], str]] = [
    (["sample", "nowhere"], "nowhere is not a run directory"),
    (["sample"], "no run under runs/; train one with `python train.py`"),
    (["sample", "--top-p", "0"], "Invalid value for '--top-p'"),
    (["sampel"], "No such command 'sampel'. Did you mean 'sample'?"),
    (["corpus", "--sentences", "0"], "Invalid value for '--sentences'"),
    (["corpus", "--sentences", "2", "-o", "/dev/null/x"], "Not a directory"),
    (["tokenizer", "encode", "none.json", "none.txt"], "none.txt"),
    (["tokenizer", "decode", "t.json", "ids.txt"], "'abc' is not a token id"),
    (["tokenizer", "decode", "t.json", "far.txt"], "token id 999 is outside the vocabulary"),
    (["tokenizer", "decode", "t.json", "bytes.txt"], "is not a token id"),
    (["tokenizer", "decode", "t.json", "long.txt"], "is not a token id"),
    (
        ["tokenizer", "train", "text.txt", "--vocab-size", "258", "-o", "."],
        "cannot write .: it is a directory",
    ),
    (["corpus", "--sentences", "2", "-o", "/"], "cannot write /: it is a directory"),
    (["corpus", "--seed", "-1"], "Invalid value for '--seed'"),
    (
        ["sample", "bundle", "--temperature", "1e-9"],
        "sample.temperature = 1e-09 must be 0 or at least 0.001",
    ),
    (["tokenizer", "train", "none.txt"], "cannot read the text none.txt"),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    COMMAND_MISTAKES,
    ids=lambda a: "-".join(a) if isinstance(a, list) else "",
)
def test_mistakes_in_commands_end_in_one_line(
    arguments: list[str],
    message: str,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.json").write_bytes((run / "tokenizer.json").read_bytes())
    Path("ids.txt").write_text("1 2 abc")
    Path("far.txt").write_text("999")
    Path("bytes.txt").write_bytes(b"1 \xff")
    Path("long.txt").write_text("1" * 5000)
    Path("text.txt").write_text("abab abab")
    Path("bundle").symlink_to(run / "bundle")
    status, _, err = call(main.main, capsys, monkeypatch, *arguments)
    assert status == 2
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_second_run_in_one_directory_is_refused(
    run: Path, small_text: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    status, _, err = call(train.main, capsys, monkeypatch, "--data.path", small_text, "--out", run)
    assert (status, "already holds a run; resume it with --resume" in err) == (2, True)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_debug_shows_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--debug", "--data.path", "none.txt"])
    with pytest.raises(Exception, match="cannot read the text none.txt"):
        run_command(train.main)
