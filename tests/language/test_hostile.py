"""Hostile text: the checker returns short verdicts for any text, and normalises it quickly."""

import json
from collections import Counter
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.commands import call
from tests.support.hostile_texts import HOSTILE_TEXTS
from valyrian_jax.cli.main import main
from valyrian_jax.cli.verdicts import format_verdicts, summarize
from valyrian_jax.language import check
from valyrian_jax.language.checker.verdict import check_sentence
from valyrian_jax.language.words.spelling import nfc

HUGE_TEXTS = {
    "a word": "qz" * 50_000,
    "vowels": "ā" * 100_000,
    "known words": "valar " * 20_000,
    "unknown words": "qqzzqq " * 20_000,
    "accents in two orders": "a" + "\u0301\u0323" * 50_000,
    "one known word repeated": "huno " * 38,
    "a number": "1" * 100_000,
    "an escape": "valar \x1b[31m morghūlis.",
    "other line ends": "valar\u2028morghūlis\x85\x0b\r x",
    "a lone surrogate": "\ud800",
}


def is_one_short_line(reason: str) -> bool:
    return reason.isprintable() and len(reason) < 250


@pytest.mark.parametrize("name", HUGE_TEXTS)
def test_a_reason_is_one_short_line(name: str) -> None:
    verdict = check_sentence(HUGE_TEXTS[name])
    assert not verdict.grammatical
    assert is_one_short_line(verdict.reason)
    assert verdict.text == HUGE_TEXTS[name]


@pytest.mark.parametrize("kind", HOSTILE_TEXTS)
def test_hostile_text_gets_printable_verdicts(kind: str) -> None:
    encoded = HOSTILE_TEXTS[kind](4000).decode("utf-8", "replace").encode()
    verdicts = check(encoded.decode())
    assert all(is_one_short_line(verdict.reason) for verdict in verdicts)
    if not verdicts:  # The text has no letter and no digit.
        return
    counts = Counter[str]()
    *printed, last = format_verdicts([encoded.decode()], as_json=False, counts=counts)
    assert counts == Counter(verdict.verdict for verdict in verdicts)
    assert last == summarize(counts)
    for lines in printed:
        assert all(line.isprintable() and len(line) < 400 for line in lines.split("\n"))
        assert lines.count("\n") <= 5


MARKS = st.text(st.sampled_from("\u0301\u0323\u0304\u0345aē \u2014\U0001f409\u1e69"), max_size=80)


@given(MARKS)
def test_nfc_is_normal_and_adds_only_joiners(text: str) -> None:
    result = nfc(text)
    assert result == normalize("NFC", result)
    assert result.replace("\u034f", "") == normalize("NFC", text) or "\u034f" in result
    assert normalize("NFD", result.replace("\u034f", "")) == normalize("NFD", text)


def test_nfc_adds_a_joiner_only_after_thirty_marks() -> None:
    marks = "\u0301\u0323" * 15
    assert nfc("a" + marks) == normalize("NFC", "a" + marks)
    assert nfc("a" + marks + "\u0301").endswith("\u034f\u0301")
    assert nfc("—" * 100) == "—" * 100
    assert nfc("—" * 40 + marks) == normalize("NFC", "—" * 40 + marks)


TYPED = {
    "colours and titles": "valar \x1b[31m morghūlis \x1b]0;title\x07",
    "a C1 control": "valar \x9b31m morghūlis",
    "backspaces": "valar\x08\x08\x7f\x00 morghūlis",
    "another direction": "valar \u202emorghūlis\u2066 x",
    "no width": "va\u200blar \ufeffmorghūlis",
    "tags": "valar \U000e0041\U000e0042 morghūlis",
    "line ends": "valar\u2028x\x85y\x0bz\rmorghūlis",
    "marks": "valar mo\u0301" + "\u0323" * 300,
    "a lone surrogate": "valar \udcff morghūlis",  # a byte of the command line that is not UTF-8
    "a long word": "ā" * 5000,
}


@pytest.mark.parametrize(
    "arguments", [["check"], ["check", "--word"], ["gloss"], ["word"]], ids=" ".join
)
@pytest.mark.parametrize("kind", TYPED)
def test_nothing_that_is_typed_reaches_the_terminal_raw(
    kind: str,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status, out, err = call(main, capsys, monkeypatch, *arguments, TYPED[kind])
    assert status in (0, 1, 3)
    assert all(line.isprintable() for line in (out + err).split("\n"))
    status, out, _ = call(main, capsys, monkeypatch, *arguments, TYPED[kind], "--json")
    assert status in (0, 1, 3)
    assert all(line.isprintable() and json.loads(line) for line in out.splitlines())
