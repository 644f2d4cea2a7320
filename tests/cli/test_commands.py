"""The commands as a user meets them: every mistake ends in one line."""

import functools
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import train
from tests.support.commands import (
    ROOT,
    RunMain,
    assert_one_line_error,
    call,
)
from valyrian_jax.cli.entry_point import describe_missing_package, run_command
from valyrian_jax.cli.main import main
from valyrian_jax.tokenizer import train_bpe
from valyrian_jax.training import checkpoint

ROOT = Path(__file__).parents[2]
TINY_CONFIG = ROOT / "configs" / "tiny.toml"
TINY_OPTIONS = [f"--{key}={value}" for key, value in {**TINY, "train.sample_every": 0}.items()]

RunMain = Callable[..., tuple[int, str, str]]


def start_training(home: Path, text: Path, out: str, *options: str) -> subprocess.Popen[str]:
    """Start a tiny run in a process of its own, in an empty directory."""
    arguments = ["--config", TINY_CONFIG, "--data.path", text, "--out", out, *TINY_OPTIONS]
    return subprocess.Popen(
        [sys.executable, "-u", ROOT / "train.py", *arguments, *options],
        cwd=home,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def run(small_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the real program, under runs/ of an otherwise empty directory."""
    home = tmp_path_factory.mktemp("home")
    process = start_training(home, small_text, "runs/first", "--deterministic")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    for line in (
        "device    cpu",
        "parameters",
        "weight decay 0.1 on",
        "held-out loss",
        "bits per byte",
        "next      python -m",
    ):
        assert line in out
    return home / "runs" / "first"


@pytest.fixture
def run_main(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunMain:
    """Return a function that runs `python -m valyrian_jax` with arguments."""
    return functools.partial(call, main, capsys, monkeypatch)


def test_a_checkpoint_records_how_it_was_computed(run: Path) -> None:
    metadata = checkpoint.find_newest(run / "checkpoints").metadata
    assert metadata.config["train"]["deterministic"] is True
    assert metadata.versions["XLA_FLAGS"].count("--xla_gpu_deterministic_ops=true") == 1
    assert metadata.versions["jax"] == jax.__version__
    assert load_bundle(run / "bundle").manifest["versions"] == metadata.versions


def test_sample_prints_the_text_of_the_sampler(
    run: Path, run_main: RunMain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent.parent)  # where it is the newest run
    bundle = load_bundle(run / "bundle")
    generate = make_generator(bundle)
    settings = SampleConfig(prompt="the dragon", seed=7, max_new_tokens=60)
    expected = next(generate_many_texts(generate, bundle.tokenizer, settings, 1))
    options = ["--prompt", "the dragon", "--seed", 7, "--max-new-tokens", 60]
    notice = f"using the newest run with weights: {Path('runs', 'first')}\n"
    assert run_main("sample", *options) == (0, expected + "\n", notice)
    status, out, _ = run_main("sample", run, *options, "--num-samples", 2, "--json")
    assert status == 0
    assert json.loads(out.splitlines()[0]) == {"seed": 7, "text": expected}
    assert len(out.splitlines()) == 2


def test_sample_ends_before_a_stop_string_in_every_form(run: Path, run_main: RunMain) -> None:
    options = ["--seed", 5, "--max-new-tokens", 60, "--temperature", 0.5]
    _, full, _ = run_main("sample", run, *options)
    stop, other = full[20:23], full[30:32]
    expected = full[: min(full.index(stop), full.index(other))]
    options += ["--stop", other, "--stop", stop]
    assert run_main("sample", run, *options)[:2] == (0, expected + "\n")
    _, out, _ = run_main("sample", run, *options, "--show-tokens")
    assert out.replace("|", "") == expected + "\n"
    _, out, _ = run_main("sample", run, *options, "--show-tokens", "--json", "--num-samples", 2)
    record = json.loads(out.splitlines()[0])
    assert (record["text"], "".join(record["tokens"])) == (expected, expected)


def test_sample_settings_reach_the_sampler(run: Path, run_main: RunMain) -> None:
    def sample(*options: object) -> str:
        return run_main("sample", run, "--max-new-tokens", 40, *options)[1]

    greedy = sample("--temperature", 0)
    assert sample("--min-p", 1) == greedy
    assert sample("--temperature", 0, "--repetition-penalty", 2) != greedy
    hot = ["--temperature", 5, "--top-p", 1, "--show-tokens"]
    counts = [
        len(sample("--seed", seed, "--min-new-tokens", minimum, *hot).split("|"))
        for minimum in (0, 40)
        for seed in range(20)
    ]
    assert min(counts[:20]) < 40
    assert min(counts[20:]) >= 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--min-p", 1.5], "1.5 is not in the range 0<=x<=1"),
        (["--repetition-penalty", 0], "0.0 is not in the range"),
        (["--min-new-tokens", -1], "-1 is not in the range 0<=x<2147483648"),
        (["--stop", ""], "stop = ['']: expected strings of at least one character"),
    ],
)
def test_sample_refuses_settings_out_of_range(
    options: list[Any], message: str, run: Path, run_main: RunMain
) -> None:
    status, out, err = run_main("sample", run, *options)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_sample_takes_long_and_empty_prompts_and_bundles(run: Path, run_main: RunMain) -> None:
    long_prompt = "the dragon sees a wolf " * 40
    status, out, _ = run_main("sample", run / "bundle", "--prompt", long_prompt)
    assert status == 0
    assert out.startswith(long_prompt)
    assert run_main("sample", run)[0] == 0


def test_eval_reports_the_loss_of_the_bundle(run: Path, run_main: RunMain) -> None:
    status, out, _ = run_main("eval", run, "--json")
    assert status == 0
    manifest = load_bundle(run / "bundle").manifest
    assert json.loads(out)["bits_per_byte"] == pytest.approx(manifest["held_out"]["bits_per_byte"])


def test_plot_writes_the_figure_of_a_run(run: Path, run_main: RunMain) -> None:
    (run / "loss.png").unlink()
    assert run_main("plot", run) == (0, f"{run}/loss.png\n{run}/loss.svg\n", "")
    assert (run / "loss.png").exists()


def test_tokenizer_commands_return_any_bytes_unchanged(
    small_text: Path,
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_tokenizer: Any = functools.partial(call, main, capfdbinary, monkeypatch, "tokenizer")
    vocabulary, ids, binary = (tmp_path / name for name in ("tokenizer.json", "ids.txt", "any.bin"))
    binary.write_bytes(bytes(range(256)) * 3)
    assert run_tokenizer("train", small_text, "--vocab-size", 270, "-o", vocabulary)[0] == 0
    status, out, _ = run_tokenizer("encode", vocabulary, binary)
    assert status == 0
    ids.write_bytes(out)
    assert run_tokenizer("decode", vocabulary, ids)[1] == binary.read_bytes()


COMMAND_MISTAKES: list[tuple[list[str], str]] = [
    (["sample", "nowhere"], "nowhere is not a run directory"),
    (["plot"], "no run with weights under runs/: expected a directory with a bundle, found 0"),
    (["sample", "--top-p", "0"], "Invalid value for '--top-p'"),
    (["sampel"], "No such command 'sampel'. Did you mean 'sample'?"),
    (["corpus", "--sentences", "0"], "Invalid value for '--sentences'"),
    (["corpus", "--sentences", "2", "-o", "/dev/null/x"], "Not a directory"),
    (["tokenizer", "encode", "none.json", "none.txt"], "none.json"),
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
        "temperature = 1e-09: must be 0 or at least 0.001",
    ),
    (["tokenizer", "train", "none.txt"], "cannot read the text none.txt"),
    (["tokenizer", "train", "/dev/zero"], "expected a file or a pipe, found a device"),
    (["tokenizer", "encode", "t.json", "/dev/zero"], "expected a file or a pipe, found a device"),
    (["tokenizer", "decode", "t.json", "/dev/zero"], "expected a file or a pipe, found a device"),
    (["check", "/dev/zero"], "expected a file or a pipe, found a device"),
    (["tokenizer", "train", "text.txt", "--separator", "re:("], "is not a regular expression"),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    COMMAND_MISTAKES,
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_mistakes_in_commands_end_in_one_line(
    arguments: list[str],
    message: str,
    run: Path,
    tmp_path: Path,
    run_main: RunMain,
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
    status, _, err = run_main(*arguments)
    assert status == 2
    assert_one_line_error(err, message)


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--debug", "--data.path", "none.txt"])
    with pytest.raises(Exception, match="cannot read the text none.txt"):
        run_command(train.main)


def test_a_missing_module_that_the_project_does_not_require_is_a_fault_of_the_code() -> None:
    assert describe_missing_package("valyrian_jax.nonsense") is None
    assert describe_missing_package("torch._C") is None  # torch is there, and broken


@pytest.mark.parametrize(
    "arguments",
    [["check"], ["tokenizer", "encode", "t.json"], ["tokenizer", "decode", "t.json"]],
    ids="-".join,
)
def test_closed_standard_input_ends_in_one_line(arguments: list[str], tmp_path: Path) -> None:
    train_bpe("aaab", 257).save(tmp_path / "t.json")
    command = shlex.join([sys.executable, "-m", "valyrian_jax", *arguments])
    ended = subprocess.run(
        ["bash", "-c", f"{command} <&-"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert_one_line_error(ended.stderr, "standard input is closed; expected a text")
