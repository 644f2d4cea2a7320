"""No text stops the judge, and what it says of one stays one short line."""

from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hostile_texts import KINDS
from valyrian_jax.cli.tables import format_verdicts
from valyrian_jax.language import check
from valyrian_jax.language.checker.verdict import judge
from valyrian_jax.language.words.nfc import nfc

HUGE = {
    "a word": "qz" * 50_000,
    "vowels": "ā" * 100_000,
    "known words": "valar " * 20_000,
    "unknown words": "qqzzqq " * 20_000,
    "accents in two orders": "a" + "\u0301\u0323" * 50_000,
    "a known word again and again": "huno " * 38,
    "a number": "1" * 100_000,
    "an escape": "valar \x1b[31m morghūlis.",
    "other line ends": "valar\u2028morghūlis\x85\x0b\r x",
    "a lone surrogate": "\ud800",
}


def is_one_short_line(reason: str) -> bool:
    return reason.isprintable() and len(reason) < 250


@pytest.mark.parametrize("name", HUGE)
def test_a_verdict_is_one_short_line(name: str) -> None:
    verdict = judge(HUGE[name])
    assert not verdict.grammatical
    assert is_one_short_line(verdict.reason)
    assert verdict.text == HUGE[name]


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_text_gets_verdicts_and_lines(kind: str) -> None:
    encoded = KINDS[kind](4000).decode("utf-8", "replace").encode()
    verdicts = check(encoded.decode())
    assert all(is_one_short_line(verdict.reason) for verdict in verdicts)
    if not verdicts:  # white space alone
        return
    *shown, last = format_verdicts(encoded, as_json=False)
    if last.startswith("note: "):
        last = shown.pop()
    assert (
        last
        == f"{sum(verdict.grammatical for verdict in verdicts)} of {len(verdicts)} sentences are grammatical"
    )
    for lines in shown:
        assert all(line.isprintable() and len(line) < 400 for line in lines.split("\n"))
        assert lines.count("\n") <= 1


MARKS = st.text(st.sampled_from("\u0301\u0323\u0304\u0345aē \u2014\U0001f409\u1e69"), max_size=80)


@given(MARKS)
def test_composed_is_nfc_with_a_joiner_after_thirty_marks(text: str) -> None:
    found = nfc(text)
    assert found == normalize("NFC", found)
    assert found.replace("\u034f", "") == normalize("NFC", text) or "\u034f" in found
    assert normalize("NFD", found.replace("\u034f", "")) == normalize("NFD", text)


def test_thirty_marks_are_left_alone_and_dashes_too() -> None:
    marks = "\u0301\u0323" * 15
    assert nfc("a" + marks) == normalize("NFC", "a" + marks)
    assert nfc("a" + marks + "\u0301").endswith("\u034f\u0301")
    assert nfc("—" * 100) == "—" * 100
    assert nfc("—" * 40 + marks) == normalize("NFC", "—" * 40 + marks)
