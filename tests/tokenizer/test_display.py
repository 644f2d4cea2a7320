"""--show-tokens prints every token visibly, and nothing else reaches the terminal."""

import codecs
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import __main__ as bridge_main
from tests.support.commands import call, call_on_terminal
from valyrian_jax.cli.main import main
from valyrian_jax.tokenizer import Tokenizer, train_bpe
from valyrian_jax.tokenizer.display import (
    count_noun,
    escape_controls,
    format_size,
    make_visible,
    to_json,
    token_text,
    wrap_words,
)

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


@given(st.text(st.characters() | st.sampled_from("\x1b\x9b\u202e\u2028\r\x7f\0\u200d\u3000")))
def test_no_text_can_drive_a_terminal(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    shown = escape_controls(text)
    assert not re.search(r"[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", shown)
    encoded = to_json({"text": text})
    assert encoded.isprintable()
    assert json.loads(encoded) == {"text": text}


def test_what_people_read_is_left_as_it_is() -> None:
    for text in ("第一章\u3000龍。", "می\u200cخواهم", "👩\u200d🚀 a\u00a0b\tc\n", "zaldrīzes"):
        assert escape_controls(text) == text
    assert escape_controls("a\rb\x1b[2J\x9b1m\u202e\ud800") == r"a\rb\x1b[2J\x9b1m\u202e\ud800"


@pytest.mark.parametrize("program", [main, bridge_main.main], ids=["sample", "generate"])
def test_a_sample_is_escaped_on_a_terminal_only(
    program: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = "sample" if program is main else "generate"
    arguments = (command, RUN, "--prompt", "\x1b[2J\x9bm\u202e", "--max-new-tokens", 3)
    assert call(program, capsys, monkeypatch, *arguments)[1].startswith("\x1b[2J\x9bm\u202e")
    shown = call_on_terminal(program, monkeypatch, *arguments)
    assert shown.startswith(r"\x1b[2J\x9bm\u202e")
    assert escape_controls(shown) == shown
    shown = call_on_terminal(program, monkeypatch, *arguments, "--json")
    assert escape_controls(shown) == shown


NAME = "a\x1b[2Jb\x9bm"


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", NAME),
        ("check", "--json", NAME),
        ("check", "--word", "--json", NAME),
        ("tokenizer", "train", NAME, "--vocab-size", 260, "-o", NAME + ".json"),
        ("tokenizer", "encode", "tokenizer.json", NAME, "--out", NAME + "-shards"),
        ("plot", NAME + "-run", "-o", NAME),
    ],
    ids=lambda arguments: "-".join(map(str, arguments[:2])),
)
def test_names_and_texts_are_escaped_on_a_terminal(
    arguments: tuple[Any, ...], tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(NAME).write_text(f"Valar {NAME} Valar Valar", encoding="utf-8")
    Path(NAME + "-run").symlink_to(RUN)
    # `check` says with its status that the sentence has unknown words.
    shown = call_on_terminal(main, monkeypatch, *arguments, statuses=(0, 3))
    assert escape_controls(shown) == shown
    assert "Jb" in shown


def test_counts_and_sizes_are_exact_and_never_zero_of_a_larger_unit() -> None:
    assert [count_noun(n, "shard") for n in (0, 1, 1234)] == ["0 shards", "1 shard", "1,234 shards"]
    sizes = 0, 1, 999, 1000, 12_345, 999_999, 1_000_000, 123_456_789, 2_500_000_000
    assert [*map(format_size, sizes)] == [
        "0 bytes",
        "1 byte",
        "999 bytes",
        "1.00 kB",
        "12.3 kB",
        "1,000 kB",
        "1.00 MB",
        "123 MB",
        "2.50 GB",
    ]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("Valar morghūlis, valar dohaeris.", ["Valar", "  morghūlis,", "  valar", "  dohaeris."]),
        ("a b\n\nc d e f g h", ["a b", "", "  c d e f", "  g h"]),
        ("語語語語 語語", ["語語語語", "  語語"]),  # two columns each
        ("", [""]),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_lines_break_between_words(text: str, lines: list[str], size: int) -> None:
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    assert "".join(wrap_words(pieces, 10, 2)) == "\n".join(lines)


def test_a_long_word_stays_whole_and_beside_its_name() -> None:
    path = "name      value-that-is-long x"
    assert "".join(wrap_words([path], 10, 10)) == f"name      value-that-is-long\n{' ' * 10}x"
    assert "".join(wrap_words(["  a word-of-one-piece"], 10, 2)) == "  a\n  word-of-one-piece"


def test_every_line_is_indented_alike_unless_it_has_its_own_indentation() -> None:
    pieces = ["[1] one t", "wo three\nfou", "r five six\n\n  own\nlast"]
    lines = ["[1] one", "    two", "    three", "    four", "    five", "    six", "", "  own"]
    assert "".join(wrap_words(pieces, 10, 4)) == "\n".join([*lines, "    last"])
    assert "".join(wrap_words(["a\nb"], 10)) == "a\nb"


@given(st.lists(st.text(st.sampled_from("ab \nȳ"))), st.integers(1, 30))
def test_wrapping_changes_nothing_but_white_space(pieces: list[str], width: int) -> None:
    text, wrapped = "".join(pieces), "".join(wrap_words(pieces, width))
    assert wrapped.split() == text.split()
    if max(map(len, text.split()), default=0) < width:
        assert max(len(line.rstrip()) for line in wrapped.split("\n")) <= width


def test_a_word_longer_than_a_line_does_not_wait_for_its_end() -> None:
    assert next(wrap_words(iter(["a" * 11, "a" * 5]), 10)) == "a" * 11
