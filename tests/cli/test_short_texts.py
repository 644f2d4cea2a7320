"""The advice for a text that is too short works at the first try."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import train
from tests.support.commands import call
from tests.support.tiny import TINY
from valyrian_jax.cli.main import main

SMALL = {
    **TINY,
    "model.vocab_size": 500,
    "model.n_positions": 64,
    "model.n_embd": 32,
    "train.batch_size": 2,
    "train.steps": 10,
    "train.eval_every": 10,
    "train.sample_every": 0,
    "train.checkpoint_every": 10,
}
LARGE = {"model.vocab_size": 5000, "model.n_positions": 2048}
FORMS: dict[str, Callable[[str], str]] = {
    "paragraphs": str.strip,
    "no spaces": lambda text: "".join(text.split()),
    "one line": lambda text: " ".join(text.split()),
}
VOCABULARY, CONTEXT = "--model.vocab_size", "--model.n_positions"
CASES: list[tuple[int, str, dict[str, int], list[str]]] = [
    (3, "one line", {}, [VOCABULARY, CONTEXT]),
    (300, "no spaces", {}, [VOCABULARY]),
    (5000, "paragraphs", LARGE, [VOCABULARY, CONTEXT]),
    (5000, "one line", {"model.n_positions": 4096}, [CONTEXT]),
]


@pytest.mark.parametrize(
    ("size", "form", "changes", "named"),
    [*CASES[:1], *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES[1:])],
)
def test_a_short_text_trains_with_the_options_that_its_error_names(
    size: int,
    form: str,
    changes: dict[str, int],
    named: list[str],
    valyrian: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    text = FORMS[form](valyrian).encode()[:size].decode(errors="ignore")
    Path("text.txt").write_text(text, encoding="utf-8")
    settings = [f"--{key}={value}" for key, value in (SMALL | changes).items()]
    command = ("--data.path", "text.txt", "--out", "run", *settings)
    status, _, err = call(train.main, capsys, monkeypatch, *command)
    assert (status, err.count("\n")) == (2, 1)
    advice = dict(re.findall(r"(--[a-z]+\.[a-z_]+) (\S+)", err))
    assert [*advice] == named
    options = [f"{name}={value}" for name, value in advice.items()]
    status, _, err = call(train.main, capsys, monkeypatch, *command, *options)
    assert (status, err) == (0, "")
    assert call(main, capsys, monkeypatch, "eval", "run", "--texts", 1)[0] == 0
