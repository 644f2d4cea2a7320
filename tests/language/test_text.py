"""A text as sentences and words: what is layout, and what belongs to the language."""

import pytest

from valyrian_jax.language import check
from valyrian_jax.language.checker.text import split_sentences, stream_sentences, tokenize
from valyrian_jax.language.checker.verdict import check_sentence

SENTENCES = {
    "Valar morghūlis. Vala ēdrus": ["Valar morghūlis.", "Vala ēdrus"],
    "«Rytsas!» — Valar morghūlis…": ["«Rytsas!»", "— Valar morghūlis…"],
    "Valar... morghūlis?! Vala": ["Valar... morghūlis?!", "Vala"],
    "Vala (riñe) urnes.\" 'Vala ēdrus.'": ['Vala (riñe) urnes."', "'Vala ēdrus.'"],
    '"': [],
    "... 🐉 — !": [],
    "7": ["7"],
    # A paragraph that is wrapped by hand; then titles, verses without capitals, and paragraphs.
    "“Zaldrīzes buzdari\niksos daor. Valar\nmorghūlis.": [
        "“Zaldrīzes buzdari iksos daor.",
        "Valar morghūlis.",
    ],
    "Valar Morghūlis\nVala ēdrus": ["Valar Morghūlis", "Vala ēdrus"],
    "valar morghūlis\nvalar dohaeris": ["valar morghūlis", "valar dohaeris"],
    "Valar morghūlis\n\nvalar dohaeris": ["Valar morghūlis", "valar dohaeris"],
}
TOKENS = {
    "Valar morghūlis": "Valar morghūlis .",
    "“Valar” [morghūlis]…": "Valar morghūlis .",
    "— Rytsas;  raqiros?!": "Rytsas , raqiros ?",
    "Valar... *morghūlis* 🐉!": "Valar morghūlis !",
    "Rytsas,, raqiros,.": "Rytsas , raqiros .",
    "val\u00adar mor\u200bghūlis": "valar morghūlis .",
    "7 valar & 100%": "7 valar & 100 % .",
    "Mor\u0304ghulis v\u0301\u0301ala": "Mor\u0304ghulis v\u0301\u0301ala .",
    "...": "",
}


@pytest.mark.parametrize("text", SENTENCES)
def test_a_text_is_split_into_sentences(text: str) -> None:
    assert split_sentences(text) == SENTENCES[text]
    assert [*stream_sentences(text)] == SENTENCES[text]  # a character at a time


@pytest.mark.parametrize("text", TOKENS)
def test_a_sentence_is_split_into_words_and_marks(text: str) -> None:
    assert " ".join(tokenize(text)) == TOKENS[text]


@pytest.mark.parametrize("layout", ['"{}"', "({})", "— {}…", "*{}*", "{}?!", "🐉 {} 🐉", "  {}"])
def test_layout_is_no_mistake(layout: str) -> None:
    (verdict,) = check(layout.format("Vala  zaldrīzī\u00a0urnes"))
    assert (verdict.verdict, verdict.notes) == ("right", ())


@pytest.mark.parametrize(
    "text", ["VALAR MORGHŪLIS!", "valar morghūlis", "Vala Riñe Urnes.", "DAOR!"]
)
def test_capitals_are_no_mistake(text: str) -> None:
    verdict = check_sentence(text)
    assert (verdict.verdict, verdict.notes) == ("right", ())


@pytest.mark.parametrize(
    ("text", "verdict", "notes"),
    [
        ("Valar morghulis.", "right", ["`morghulis` is written `morghūlis`"]),
        ("Vaalar morghuulis.", "right", ["`Vaalar` is written", "`morghuulis` is written"]),
        ("Vala zaldrizi urnes.", "right", ["`zaldrizi` is written `zaldrīzī`"]),
        ("Vala zaldrizes urnes.", "mistake", ["`zaldrizes` is written `zaldrīzes`"]),
        ("daenerys vala urnes.", "mistake", ["`daenerys` is a name: `Daenerys`"]),
        ("Kirimvose se jiorna!", "right", ["`jiorna` is written `jiōrna`"]),
        ("Vala taobi zaldrizes belma urnes", "beyond", ["`zaldrizes` is written"]),
        ("Skorkydoso glaesa?", "right", ["`glaesa` is written `glaesā`"]),
        ("Vali azantyssy rijis.", "mistake", []),
        ("Zaldrizes taobi urnes.", "right", ["`taobi` is written `taobī`"]),
        ("Zaldrīzes taobi urnes.", "mistake", []),
        ("DAENERYS zaldrizi urnes.", "right", ["`zaldrizi` is written"]),
        ("Drâcarys!", "right", ["`Drâcarys` is written `Drakarys`"]),
        ("VALAR MORGHULIS!", "right", ["`MORGHULIS` is written `MORGHŪLIS`"]),
        ("Valar morghu\u0304lis.", "right", ["not NFC"]),
    ],
)
def test_spelling_is_noted_beside_the_verdict(text: str, verdict: str, notes: list[str]) -> None:
    result = check_sentence(text)
    assert result.verdict == verdict
    for note in notes:
        assert any(note in line for line in result.notes), result
