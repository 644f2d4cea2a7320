"""--show-tokens prints every token visibly, and nothing else reaches the terminal."""

import codecs
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import __main__ as bridge_main
from tests.support.commands import call, call_on_terminal
from valyrian_jax.cli.main import main
from valyrian_jax.tokenizer import Tokenizer, train_bpe
from valyrian_jax.tokenizer.display import make_visible, token_text

RUN = Path(__file__).parents[1] / "artifacts" / "0.1.0" / "run"
TEXT = "Ābri ābri.\n\nKo \x1b[2J\x9b31m\u202e ābri ȳ \\ 🐉\n"
COLOURED = re.compile(r"\x1b\[30m\x1b\[43m(.+?)\x1b\[0m|\x1b\[97m\x1b\[44m(.+?)\x1b\[0m")


@pytest.fixture
def tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tokenizer:
    """Write text.txt and tokenizer.json, and set a terminal with colours."""
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
def test_visible_tokens_are_complete_and_printable(token: bytes) -> None:
    visible = make_visible(token)
    assert visible.isprintable()
    assert codecs.escape_decode(visible.encode())[0] == token


def test_incomplete_letters_are_shown_as_bytes() -> None:
    assert make_visible("zaldrīzes 🐉".encode()) == "zaldrīzes 🐉"
    assert [make_visible(half) for half in (b"ko\xc4", b"\xab")] == [r"ko\xc4", r"\xab"]
    assert token_text("a\nī".encode()) == "a\nī"
    assert token_text(b"a\xc4") == r"a\xc4"


def test_separators_stand_between_tokens_without_a_terminal(
    tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, err = call(main, capsys, monkeypatch, *SHOW)
    assert (status, err) == (0, "")
    tokens = [tokenizer.tokens[i] for i in tokenizer.encode(TEXT)]
    assert [make_visible(token) for token in tokens] == out.replace("\n", "").split("|")
    assert all(line.isprintable() for line in out.split("\n"))
    lines = [line.replace("|", "") for line in out.splitlines()]
    assert [codecs.escape_decode(line.encode())[0].decode() for line in lines] == TEXT.splitlines(
        keepends=True
    )


def test_colours_alternate_on_a_terminal(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = call_on_terminal(main, monkeypatch, *SHOW)
    coloured = COLOURED.findall(out)
    assert ["".join(pair) for pair in coloured] == [
        make_visible(tokenizer.tokens[i]) for i in tokenizer.encode(TEXT)
    ]
    assert all(bool(pair[0]) == (number % 2 == 0) for number, pair in enumerate(coloured))
    assert all(line.isprintable() for line in COLOURED.sub("", out).split("\n"))


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_separators_stand_between_tokens_without_colours(
    variable: str,
    value: str,
    tokenizer: Tokenizer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, value)
    assert call_on_terminal(main, monkeypatch, *SHOW) == call(main, capsys, monkeypatch, *SHOW)[1]


def test_generate_shows_the_tokens_of_the_prompt_and_the_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["--prompt", "Vala ñ\n", "--max-new-tokens", 30, "--seed", 3, "--top-k", 3]

    def generate(*options: object) -> str:
        status, out, err = call(
            bridge_main.main, capsys, monkeypatch, "generate", RUN, *settings, *options
        )
        assert (status, err) == (0, "")
        return out

    records = [
        json.loads(line)
        for line in generate("--num-samples", 2, "--show-tokens", "--json").splitlines()
    ]
    output = generate("--show-tokens")
    tokens = [
        codecs.escape_decode(piece.encode())[0] for piece in output.replace("\n", "").split("|")
    ]
    assert {*tokens} <= {*Tokenizer.load(RUN / "tokenizer.json").tokens}
    assert b"\xc3" in tokens  # half of an ñ
    assert b"".join(tokens).decode("utf-8", "replace") == records[0]["text"]
    assert records[0]["tokens"] == [token_text(token) for token in tokens]
    assert generate("--num-samples", 2, "--show-tokens").startswith(
        f"[seed 3] {output}[seed 4] V|al|a| |"
    )
    for record in records:
        del record["tokens"]
    assert [
        json.loads(line) for line in generate("--num-samples", 2, "--json").splitlines()
    ] == records
    assert generate() == records[0]["text"] + "\n"
