"""What a model has left to learn: the parts of the excess sum to the whole."""

import json
import math
from functools import partial

import numpy as np
import pytest

from tests.support.commands import call
from valyrian_jax.bundle.bundle import Bundle, load_bundle
from valyrian_jax.bundle.shipped_model import SHIPPED_MODEL
from valyrian_jax.cli.excess_commands import make_records
from valyrian_jax.cli.main import main
from valyrian_jax.evaluation.calibration import measure_calibration, measure_error
from valyrian_jax.evaluation.excess import Excess, find_owners
from valyrian_jax.evaluation.excess_report import ExcessReport, make_excess_report
from valyrian_jax.evaluation.text_loss import evaluate_text
from valyrian_jax.evaluation.token_classes import classify_tokens
from valyrian_jax.language.generator.derivations import TextDerivation, generate_derivations

TEXTS, END = 40, "<|endoftext|>"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(SHIPPED_MODEL)


@pytest.fixture(scope="module")
def texts() -> list[TextDerivation]:
    return list(generate_derivations(TEXTS, seed=2))


@pytest.fixture(scope="module")
def report() -> ExcessReport:
    return make_excess_report(SHIPPED_MODEL, TEXTS)


@pytest.fixture(scope="module")
def excess(report: ExcessReport) -> Excess:
    return report.excess


def test_the_parts_sum_to_the_whole(excess: Excess, texts: list[TextDerivation]) -> None:
    close = partial(pytest.approx, rel=1e-12)
    assert sum(part.model for part in excess.parts) == close(excess.model)
    assert sum(part.source for part in excess.parts) == close(excess.source)
    assert excess.source == close(math.log(2) * sum(text.bits for text in texts))
    assert sum(nats for _, nats in excess.token_classes.values()) == close(excess.model)


@pytest.mark.parametrize("division", ["template", "length", "training text"])
def test_the_groups_of_a_division_sum_to_the_whole(report: ExcessReport, division: str) -> None:
    groups, excess = report.divisions[division], report.excess
    total = sum(group.excess for group in groups)
    assert total == pytest.approx(excess.model - excess.source, rel=1e-12)
    assert sum(group.sentences for group in groups) == len(excess.parts)


def test_the_nats_of_the_model_are_its_loss_on_the_texts(
    bundle: Bundle, excess: Excess, texts: list[TextDerivation]
) -> None:
    loss = evaluate_text(bundle, [text.text for text in texts])
    assert excess.model == pytest.approx(loss.nats_per_token * loss.tokens, rel=1e-5)
    assert excess.bytes == loss.bytes


def test_the_tokens_of_a_part_are_those_of_its_sentence(
    bundle: Bundle, texts: list[TextDerivation]
) -> None:
    tokenizer = bundle.tokenizer
    ids = [i for text in texts for i in (*tokenizer.encode(text.text), tokenizer.end_of_text)]
    owners = find_owners(ids, texts, tokenizer)
    found = [tokenizer.decode(np.array(ids)[owners == i]) for i in range(owners.max() + 1)]
    expected = [part for text in texts for part in (*(s.text for s in text.sentences), END)]
    assert [part.strip() for part in found] == expected


def test_the_shipped_model_is_above_the_source(excess: Excess) -> None:
    assert 0 < excess.model - excess.source < 0.3 * excess.source


def test_tokens_have_the_class_of_their_place_in_a_word(bundle: Bundle) -> None:
    tokenizer = bundle.tokenizer
    ids = [*tokenizer.encode("Daor, vala morghūljagon jaelza."), tokenizer.end_of_text]
    texts = [tokenizer.decode([i]) for i in ids]
    words = list(zip(texts, classify_tokens(ids, tokenizer), strict=True))
    classes = [name for _, name in words]
    assert (",", "punctuation") in words
    assert classes[-2:] == ["end of sentence", "end of text"]
    assert classes.count("first piece") == classes.count("ending")
    firsts = [text for text, name in words if name in ("first piece", "whole word")]
    assert len(firsts) == 4
    assert all(text.startswith(" ") for text in firsts[1:])


def test_the_calibration_error_is_the_weighted_distance_in_each_bin() -> None:
    predicted = np.array([0.05, 0.05, 0.95, 0.95, 1.0])
    came = np.array([False, True, True, True, False])
    assert measure_error(predicted, came) == pytest.approx((2 * 0.45 + 3 * 0.3) / 5)
    assert measure_error(np.array([1.0, 0.0]), np.array([True, False])) == 0


def test_what_can_follow_is_certain_together(bundle: Bundle, texts: list[TextDerivation]) -> None:
    rows = measure_calibration(bundle, [text.text for text in texts])
    ways = [row for row in rows if not row.name.startswith("-")]
    assert sum(row.predicted for row in ways) == pytest.approx(1, abs=1e-5)
    assert sum(row.observed for row in ways) == pytest.approx(1)
    assert len(rows) == len(ways) + 10


def test_every_row_is_in_the_json(report: ExcessReport) -> None:
    whole, *records = json.loads(json.dumps(make_records(report)))
    assert whole["excess_nats"] == report.excess.model - report.excess.source
    lengths = [record for record in records if record["division"] == "length"]
    assert sum(record["excess_nats"] for record in lengths) == pytest.approx(whole["excess_nats"])
    divisions = {record["division"] for record in records}
    assert divisions >= {"template", "construction", "token class", "calibration"}


@pytest.mark.parametrize("other", [["--pairs"], ["--text", "text.txt"]])
def test_two_evaluations_at_once_are_refused(
    other: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, err = call(main, capsys, monkeypatch, "eval", "--excess", *other)
    assert (status, out) == (2, "")
    assert "are 2 evaluations; pass one" in err
