"""Interlinear glosses: the grammar decides what a word is, and unknown words are marked."""

import doctest

import pytest

from valyrian_jax.language import dictionary, gloss, interlinear, load_lexicon
from valyrian_jax.language.interlinear import UNKNOWN, analyze_by_leipzig
from valyrian_jax.language.words.analysis import inflect


@pytest.mark.parametrize(
    ("sentence", "analyses"),
    [
        ("Sīr vali kari issi.", "now man-NOM.PL great-NOM.PL.LUN be-PRS.3PL"),
        ("Valar morghūlis.", "man-NOM.COLL die-AOR.3SG"),
        ("Vala riñe urnios daor!", "man-NOM.SG girl-ACC.SG see-SBJV.PRS.3SG not"),
        ("Vale jikās!", "man-ACC.SG send-IMP.PRS.2SG"),
        ("Henujagon jaelza.", "leave-INF.PRS want-PRS.3SG"),
        ("Muña taobā ēdrusi.", r"mother-NOM.SG boy-NOM.SG\and sleep-PRS.3PL"),
        ("Hontes ipradaks.", "bird-NOM.SG eat-PASS.PRS.3SG"),
        ("Ziry hāedroma iprattas.", "he/she/it-ACC.SG younger.sister-COM.SG eat-PRF.3SG"),
        ("Skoros morghot vestri?", "what-ACC.SG death-DAT.SG say-PRS.1PL"),
        ("Ābra kirinkta issa.", "woman-NOM.SG happier-NOM.SG.LUN be-PRS.3SG"),
    ],
)
def test_words_are_analysed_by_the_leipzig_rules(sentence: str, analyses: str) -> None:
    result = gloss(sentence)
    assert result.is_parsed
    assert [word.analysis for word in result.words] == analyses.split()


def test_the_sentence_decides_between_the_readings_of_a_form() -> None:
    """`buzdari` is one slave or several, and `inkot` a direction or a place."""
    one, several = gloss("Zaldrīzes buzdari iksos daor."), gloss("Buzdari ēdrusi.")
    assert one.words[1].analysis == "slave-NOM.SG"
    assert several.words[0].analysis == "slave-NOM.PL"
    assert "slave-NOM.PL" in one.words[1].others
    assert gloss("Issa.").words[0].analysis == "yes"
    assert gloss("Vala kirine issa.").words[2].analysis == "be-PRS.3SG"
    assert gloss("Inkot!").words[0].analysis == "back"
    assert gloss("Valo inkot iōran.").words[1].analysis == "behind"


def test_without_a_parse_each_word_has_its_first_reading() -> None:
    result = gloss("Blah vali issa urnes naejot")
    assert not result.is_parsed
    analyses = [word.analysis for word in result.words]
    assert analyses == [UNKNOWN, "man-NOM.PL", "be-PRS.3SG", "see-PRS.3SG", "in.front.of"]


def test_set_phrases_are_one_word_and_keep_their_marks() -> None:
    words = gloss("Geros ilas, ñuha muña.").words
    texts = [(word.text, word.mark) for word in words]
    assert texts == [("Geros ilas", ","), ("ñuha", ""), ("muña", ".")]
    assert (words[0].analysis, words[0].source) == ("goodbye", "DU")
    assert gloss("Kesrio syt vala ēdrus.").words[0].english == "because"


def test_commas_that_the_grammar_ignores_stay() -> None:
    result = gloss("Sīr, vali, kari issi.")
    assert result.is_parsed
    assert [word.mark for word in result.words] == [",", ",", "", "."]
    assert result.words[3].analysis == "be-PRS.3PL"


def test_misspelt_words_are_glossed_and_unknown_ones_have_neighbours() -> None:
    words = gloss("Zaldrizesse vala zaldrizxr").words
    assert words[0].lemma == "zaldrīzes"
    assert [word.is_known for word in words] == [True, True, False]
    assert words[2].analysis == words[2].english == UNKNOWN
    assert "zaldrīzes" in words[2].nearest
    assert [word.text for word in gloss("! vala, - (ēdrus)…?!").words] == ["vala", "ēdrus"]
    for hostile in ("", "?!", "- , .", "ē" * 100_000, "vala " * 1_000):
        assert not gloss(hostile).is_parsed


def test_every_form_has_an_analysis_without_spaces() -> None:
    for lexeme in load_lexicon()[::3]:
        for reading in inflect(lexeme)[::11]:
            analysis = analyze_by_leipzig(reading)
            assert analysis
            assert " " not in analysis


def test_the_examples_in_docstrings_are_right() -> None:
    for module in (dictionary, interlinear):
        result = doctest.testmod(module)
        assert (result.failed, result.attempted > 0) == (0, True)
