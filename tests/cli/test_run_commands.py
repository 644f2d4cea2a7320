"""Commands for a run: sample, eval and plot."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import (
    RunMain,
    assert_one_line_error,
    call_on_terminal,
)
from valyrian_jax.bundle.bundle import load_bundle
from valyrian_jax.bundle.shipped_model import EXAMPLE_PROMPT, EXAMPLE_SEED, SHIPPED_HINT
from valyrian_jax.bundle.text_generation import generate_many_texts
from valyrian_jax.cli.main import main
from valyrian_jax.cli.samples import note_on_accents
from valyrian_jax.config import SampleConfig
from valyrian_jax.generation.generate import make_generator
from valyrian_jax.tokenizer import train_bpe


def test_inspect_refuses_its_output_before_it_computes(run_main: RunMain, tmp_path: Path) -> None:
    status, out, err = run_main("inspect", "shipped", "-o", tmp_path / "none" / "heads")
    assert (status, out) == (2, "")
    assert f"cannot write {tmp_path}/none/heads.png: No such file or directory" in err


def test_sample_prints_the_text_of_the_sampler(
    run: Path, run_main: RunMain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent.parent)  # where it is the newest run
    bundle = load_bundle(run / "bundle")
    generate = make_generator(bundle)
    settings = SampleConfig(prompt="the dragon", seed=7, max_new_tokens=60)
    expected = next(generate_many_texts(generate, bundle.tokenizer, settings, 1))
    options = ["--prompt", "the dragon", "--seed", 7, "--max-new-tokens", 60]
    notice = f"using the newest run with weights: {Path('runs', 'first')}; {SHIPPED_HINT}\n"
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
        (["--min-p", 1.5], "1.5 is not a number from 0 to 1\n"),
        (["--repetition-penalty", 0], "0.0 is not a number from 0.001 to 1000\n"),
        (["--min-new-tokens", -1], "-1 is not a whole number from 0 to 2147483647\n"),
        (["--seed", "abc"], "'--seed': 'abc' is not a whole number from 0 to 4294967295\n"),
        (["--max-new-tokens", "1,000"], "not a whole number from 1 to 2147483647; write 1000\n"),
        (["--temperature", "0,5"], "'0,5' is not a number of at least 0; write 0.5\n"),
        (["--top-p", "-0.5"], "-0.5 is not a number above 0\n"),
        (["--top-p", "a,b"], "'a,b' is not a number above 0\n"),
        (["Valar", "it's"], """(Valar it's); did you mean --prompt 'Valar it'"'"'s'?"""),
        (["-p", "Valar"], "No such option '-p'. Did you mean --prompt?"),
        (["--sead", 1], "No such option '--sead'. Did you mean --seed?"),
        (["--xyzzy", 1], "No such option '--xyzzy'.\n"),
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


def test_a_text_in_place_of_a_run_is_answered_with_the_option(run_main: RunMain) -> None:
    status, _, err = run_main("sample", "Valar morghūlis")
    assert status == 2
    assert_one_line_error(err, "or pass --prompt 'Valar morghūlis' if it is a text to continue")
    status, _, err = run_main("sample", "a long text " * 500)
    assert status == 2
    assert_one_line_error(err, "or pass --prompt TEXT if it is a text to continue\n")


def test_a_prompt_with_separate_accents_is_answered_with_the_composed_one(
    run_main: RunMain,
) -> None:
    options = ("--max-new-tokens", 1, "--prompt")
    _, _, err = run_main("sample", "shipped", *options, "Sīr vali")
    assert err == ""
    status, out, err = run_main("sample", "shipped", *options, "Si\u0304r vali")
    assert (status, err.count("\n")) == (0, 1)
    assert err.endswith("pass --prompt 'Sīr vali'\n")
    assert out.startswith("Si\u0304r vali")  # The model reads what it is given.
    decomposed = train_bpe("a\u0304 " * 9, 258)
    assert note_on_accents(decomposed, "a\u0304") == ""  # Its text has them too.


def test_a_terminal_shows_that_the_model_is_loading(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader, follower = os.openpty()
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        call_on_terminal(main, monkeypatch, "sample", run, "--max-new-tokens", 1)
        assert os.read(leader, 99) == b"loading the model ...\r\n"
    os.close(leader)


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
