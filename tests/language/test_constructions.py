"""Constructions of everyday speech: each is right, and a form altered in it is not."""

import csv
from pathlib import Path

import pytest

from valyrian_jax.language.checker.verdict import check_without_diagnosis
from valyrian_jax.language.set_phrases import SetPhrase, load_set_phrases

with (Path(__file__).parent / "constructions.csv").open(encoding="utf-8") as file:
    ROWS = list(csv.DictReader(file))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["right"])
def test_a_construction_is_right_until_a_form_is_altered(row: dict[str, str]) -> None:
    assert check_without_diagnosis(row["right"]).grammatical
    if row["altered"]:
        assert not check_without_diagnosis(row["altered"]).grammatical


@pytest.mark.parametrize("phrase", load_set_phrases(), ids=lambda phrase: " ".join(phrase.words))
def test_a_set_phrase_is_an_utterance(phrase: SetPhrase) -> None:
    text = " ".join(phrase.words)
    if phrase.kind in ("greeting", "answer", "order", "direction", "question"):
        assert check_without_diagnosis(f"{text[:1].upper()}{text[1:]}!").grammatical
    assert phrase.gloss
    assert phrase.source
