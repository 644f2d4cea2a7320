"""--show-tokens: every token is seen, and nothing else reaches the terminal."""

import codecs
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import __main__ as bridge_main
from tests.support.commands import call, call_on_terminal
from valyrian_jax import __main__ as main
from valyrian_jax.tokenizer import Tokenizer, train_bpe
from valyrian_jax.tokenizer.display import make_visible, token_text

RUN = Path(__file__).parents[1] / "artifacts" / "0.1.0" / "run"
TEXT = "Ābri ābri.\n\nKo \x1b[2J\x9b31m\u202e ābri ȳ \\ 🐉\n"
COLOURED = re.compile(r"\x1b\[30m\x1b\[43m(.+?)\x1b\[0m|\x1b\[97m\x1b\[44m(.+?)\x1b\[0m")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tokenizer:
    """A text in text.txt and a tokenizer in tokenizer.json, beside a terminal that has colours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm-256color")
    Path("text.txt").write_text(TEXT, encoding="utf-8")
    trained = train_bpe("ābri ābri ābri ko", 261)
    trained.save("tokenizer.json")
    return trained


SHOW = ("tokenizer", "encode", "tokenizer.json", "text.txt", "--show-tokens")


@given(
    st.binary(max_size=12) | st.text(max_size=12).map(lambda text: text.encode("utf-8", "replace"))
)
def test_a_token_is_shown_whole_and_without_what_moves_the_cursor(token: bytes) -> None:
    shown = make_visible(token)
    assert shown.isprintable()
    assert codecs.escape_decode(shown.encode())[0] == token


def test_letters_are_shown_as_letters_and_halves_of_them_as_bytes() -> None:
    assert make_visible("zaldrīzes 🐉".encode()) == "zaldrīzes 🐉"
    assert [make_visible(half) for half in (b"ko\xc4", b"\xab")] == [r"ko\xc4", r"\xab"]
    assert token_text("a\nī".encode()) == "a\nī"
    assert token_text(b"a\xc4") == r"a\xc4"


def test_marks_part_the_tokens_where_there_is_no_terminal(
    files: Tokenizer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, err = call(main.main, capsys, monkeypatch, *SHOW)
    assert (status, err) == (0, "")
    tokens = [files.tokens[i] for i in files.encode(TEXT)]
    assert [make_visible(token) for token in tokens] == out.replace("\n", "").split("|")
    assert all(line.isprintable() for line in out.split("\n"))
    lines = [line.replace("|", "") for line in out.splitlines()]
    assert [codecs.escape_decode(line.encode())[0].decode() for line in lines] == TEXT.splitlines(
        keepends=True
    )


def test_colours_take_turns_on_a_terminal(
    files: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = call_on_terminal(main.main, monkeypatch, *SHOW)
    shown = COLOURED.findall(out)
    assert ["".join(pair) for pair in shown] == [
        make_visible(files.tokens[i]) for i in files.encode(TEXT)
    ]
    assert all(bool(pair[0]) == (number % 2 == 0) for number, pair in enumerate(shown))
    assert all(line.isprintable() for line in COLOURED.sub("", out).split("\n"))


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_marks_part_them_where_colours_are_off(
    variable: str,
    value: str,
    files: Tokenizer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, value)
    assert (
        call_on_terminal(main.main, monkeypatch, *SHOW)
        == call(main.main, capsys, monkeypatch, *SHOW)[1]
    )


def test_generate_shows_the_tokens_of_prompt_and_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["--prompt", "Vala ñ\n", "--max-new-tokens", 30, "--seed", 3, "--top-k", 3]

    def generated(*options: object) -> str:
        status, out, err = call(
            bridge_main.main, capsys, monkeypatch, "generate", RUN, *settings, *options
        )
        assert (status, err) == (0, "")
        return out

    records = [
        json.loads(line)
        for line in generated("--num-samples", 2, "--show-tokens", "--json").splitlines()
    ]
    shown = generated("--show-tokens")
    tokens = [
        codecs.escape_decode(piece.encode())[0] for piece in shown.replace("\n", "").split("|")
    ]
    assert {*tokens} <= {*Tokenizer.load(RUN / "tokenizer.json").tokens}
    assert b"\xc3" in tokens  # half of an ñ
    assert b"".join(tokens).decode("utf-8", "replace") == records[0]["text"]
    assert records[0]["tokens"] == [token_text(token) for token in tokens]
    assert generated("--num-samples", 2, "--show-tokens").startswith(
        f"[seed 3] {shown}[seed 4] V|al|a| |"
    )
    for record in records:
        del record["tokens"]
    assert [
        json.loads(line) for line in generated("--num-samples", 2, "--json").splitlines()
    ] == records
    assert generated() == records[0]["text"] + "\n"
