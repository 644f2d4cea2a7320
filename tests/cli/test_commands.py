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
from valyrian_jax.config import SampleConfig
from valyrian_jax.generation.generate import make_generator
from valyrian_jax.language.checker.text import stream_sentences
from valyrian_jax.tokenizer import train_bpe


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


def test_corpus_writes_the_same_text_every_time(tmp_path: Path, run_main: RunMain) -> None:
    arguments = ["corpus", "--sentences", 50, "--seed", 3]
    status, out, _ = run_main(*arguments)
    assert status == 0
    assert run_main(*arguments, "-o", tmp_path / "c.txt")[0] == 0
    assert (tmp_path / "c.txt").read_text(encoding="utf-8") == out


@pytest.mark.parametrize("word", ["zaldrīzes", "kara", "jorrāelagon", "se"])
def test_language_prints_the_same_forms_as_a_table_and_as_json(
    word: str, run_main: RunMain
) -> None:
    status, out, _ = run_main("language", "--table", word, "--json")
    assert status == 0
    (record,) = map(json.loads, out.splitlines())
    assert record["lemma"] == word
    marked = {form["text"] + "°" * (not form["sure"]) for form in record["forms"]}
    table = run_main("language", "--table", word)[1].partition("\n\n")[2].partition("  source")[0]
    assert max(map(len, table.splitlines())) <= 80
    rows = [re.split(r"  +", line) for line in table.splitlines()]
    cells = {form for row in rows if row[0] for cell in row[1:] for form in cell.split("/")}
    assert cells - {"—", "— not established"} >= (marked if len(marked) > 1 else set())


def test_sigterm_ends_training_with_the_command_that_resumes_it(
    run: Path, small_text: Path
) -> None:
    endless = ["--train.steps=1000000", "--train.checkpoint_every=1000000"]
    process = start_training(run.parent.parent, small_text, "runs/stopped", *endless)
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
    assert (run.parent / "stopped" / "checkpoints" / message[1]).is_dir()


def assert_one_line_error(err: str, message: str) -> None:
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


TRAIN_MISTAKES: list[tuple[list[str], str]] = [
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
    (
        ["--model.n_positions", "9000", "--train.batch_size", "1"],
        "at least 9001 tokens for model.n_positions = 9000",
    ),
    (["--train.device", "gpu"], "train.device = gpu, but JAX finds only: cpu"),
    (["--data.path", "none.txt"], "cannot read the text none.txt: No such file"),
    (["--data.path", "empty.txt"], "the text empty.txt is empty"),
    (["--data.path", "latin.txt"], "the text latin.txt is not UTF-8: byte 0xf1"),
    (["--data.path", "short.txt"], "vocabulary size 300 cannot be filled: the text yields"),
    (["--data.path", "letter.txt"], "too short to hold out a part: expected at least 2 characters"),
    (["--data.path", "."], "cannot read the text .: Is a directory"),
    (["--data.path", "/dev/zero"], "expected a file or a pipe, found a device"),
    (["--data.separator", "re:x*"], "matches between all characters"),
    (["--data.path", "one.json"], "is one value of JSON over several lines; expected an object a"),
    (["--data.tokenizer", "empty.txt"], "empty.txt is not JSON"),
    (["--config", "none.toml"], "cannot read the configuration none.toml: No such file"),
    (["--out", "/dev/null/run"], "cannot write the directory /dev/null/run: Not a directory"),
    (["--init", "nowhere"], "no bundle at nowhere"),
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
    (["stray"], "Got unexpected extra argument (stray)"),
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


FORMS: dict[str, Callable[[str], bytes]] = {
    "plain": str.encode,
    "gzip": lambda text: gzip.compress(text.encode()),
    "UTF-16": lambda text: text.encode("utf-16"),
    "array": lambda text: json.dumps([{"text": text}]).encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_check_reads_every_form(form: str, tmp_path: Path, run_main: RunMain) -> None:
    text = "Vala zaldrīzī ūndas.\n\nValar morghūlis"
    (tmp_path / "text").write_bytes(FORMS[form](text))
    assert run_main("check", tmp_path / "text") == (
        0,
        "right    Vala zaldrīzī ūndas.\nright    Valar morghūlis\n2 sentences: 2 right\n",
        "",
    )


def test_check_streams_a_text_without_an_end(run_main: RunMain) -> None:
    texts = itertools.chain.from_iterable(itertools.repeat(["Valar mor", "ghūlis", ". Vala"]))
    sentences = stream_sentences(texts)
    assert [next(sentences) for _ in range(4)] == [
        "Valar morghūlis.",
        "ValaValar morghūlis.",
        "ValaValar morghūlis.",
        "ValaValar morghūlis.",
    ]
    longest = max(map(len, itertools.islice(stream_sentences(itertools.repeat("a" * 9999)), 9)))
    assert longest <= 1 << 20


SENTENCE = "Vala zaldrīzī ūndas."


@pytest.mark.parametrize(
    "arguments", [[SENTENCE], SENTENCE.split(), ["Valar morghūlis"], ["dohaeris"]], ids="-".join
)
def test_check_judges_a_sentence_in_place_of_a_file(
    arguments: list[str], run_main: RunMain
) -> None:
    status, out, err = run_main("check", *arguments)
    assert (status, err) == (0, "")
    assert out.splitlines()[0].endswith(f"  {' '.join(arguments)}")


def test_check_takes_a_file_for_a_file(
    tmp_path: Path, run_main: RunMain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("Valar morghūlis").write_text(SENTENCE, encoding="utf-8")
    assert run_main("check", "Valar morghūlis")[1].startswith(f"right    {SENTENCE}\n")
    for name in ("novel.txt", "texts/novel", "/nowhere"):
        status, _, err = run_main("check", name)
        assert status == 2
        assert_one_line_error(err, f"cannot read the text {name}: No such file or directory")
    status, _, err = run_main("check", "Valar morghūlis", "dohaeris")
    assert_one_line_error(err, "expected one file, found 2")


def test_a_text_in_place_of_a_run_is_answered_with_the_option(run_main: RunMain) -> None:
    status, _, err = run_main("sample", "Valar morghūlis")
    assert status == 2
    assert_one_line_error(err, "or pass --prompt 'Valar morghūlis' if it is a text to continue")


def test_options_of_other_programs_are_understood(run: Path, run_main: RunMain) -> None:
    ours = ("--max-new-tokens", 5, "--num-samples", 2, "--temperature", 0.5, "--top-k", 3)
    theirs = ("--max_tokens", 5, "--n", 2, "--temp", 0.5, "--topk", 3)
    assert run_main("sample", run, *theirs) == run_main("sample", run, *ours)
    assert run_main("sample", run, "--tokens", 5)[0] == 0


@pytest.mark.parametrize("options", [[], ["--json"], ["--num-samples", 2], ["--show-tokens"]])
def test_a_text_that_ends_at_once_says_what_to_do(
    options: list[Any], run_main: RunMain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # without runs
    advice = "the model ended the document here; try --min-new-tokens 20 or another --seed\n"
    sample = ("sample", "--prompt", "valar morghulis", "--temperature", 0, *options)
    status, out, err = run_main(*sample)
    assert status == 0
    assert "morghulis" in out.replace("|", "")
    assert err.endswith(advice)
    assert advice not in run_main(*sample, "--max-new-tokens", 1)[2]
    assert advice not in run_main(*sample, "--min-new-tokens", 20)[2]


def test_a_text_wraps_on_a_terminal_only(
    tmp_path: Path, run_main: RunMain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "40")
    arguments = ("sample", "--prompt", EXAMPLE_PROMPT, "--seed", EXAMPLE_SEED, "--num-samples", 2)
    lines = run_main(*arguments)[1].splitlines()
    shown = call_on_terminal(main, monkeypatch, *arguments)
    assert len(lines) == 2
    assert shown.split() == " ".join(lines).split()
    assert max(map(len, shown.splitlines())) <= 40
    assert shown.splitlines()[1].startswith(" " * len(f"[seed {EXAMPLE_SEED}] "))


@pytest.mark.parametrize(
    "arguments", [("plot", "RUN", "RUN"), ("plot", "RUN", "RUN", "-o", "here")], ids=len
)
def test_plot_compares_runs_beside_the_first_or_where_it_is_told(
    arguments: tuple[str, ...],
    run: Path,
    tmp_path: Path,
    run_main: RunMain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, _ = run_main(*(run if argument == "RUN" else argument for argument in arguments))
    start = "here" if "-o" in arguments else f"{run}/comparison"
    assert (status, out) == (0, f"{start}.png\n{start}.svg\n")
    assert {file.name for file in tmp_path.iterdir()} == (
        {"here.png", "here.svg"} if "-o" in arguments else set()
    )
    for name in ("comparison.png", "comparison.svg"):
        (run / name).unlink(missing_ok=True)
