"""Minimal pairs as a test of a model: scores, intervals and groups."""

import functools
import math

import numpy as np
import pytest
from scipy.stats import binomtest

from valyrian_jax.api import Model, load
from valyrian_jax.bundle.shipped_model import SHIPPED_MODEL
from valyrian_jax.evaluation.ngram import WittenBell
from valyrian_jax.evaluation.pair_report import PairReport, list_own_mistakes, make_pair_report
from valyrian_jax.evaluation.pairs import (
    find_seen_pairs,
    fits_context,
    measure_accuracy,
    measure_margins,
    score_texts,
    score_with_trigram,
    wilson_interval,
)
from valyrian_jax.language.checker.verdict import check_sentence
from valyrian_jax.language.pairs.alteration import Pair
from valyrian_jax.language.pairs.rules import RULES

TEXTS = ["Valar morghūlis.", "Vala riñe urnes.", "", "Sīr vali ziry urnegon jaelzi." * 3]


@pytest.fixture(scope="module")
def model() -> Model:
    return load(SHIPPED_MODEL)


@pytest.fixture(scope="module")
def report() -> PairReport:
    return make_pair_report(SHIPPED_MODEL, count=3, seed=0, texts=0)


@pytest.mark.parametrize(("successes", "trials"), [(0, 5), (5, 5), (1, 2), (150, 200), (199, 200)])
def test_the_interval_is_that_of_scipy(successes: int, trials: int) -> None:
    expected = binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx((expected.low, expected.high))


def test_without_trials_nothing_is_known() -> None:
    assert wilson_interval(0, 0) == (0, 1)
    assert math.isnan(measure_accuracy(np.zeros(0)).share)


def test_the_score_of_a_text_is_the_sum_over_its_tokens(model: Model) -> None:
    scores = score_texts(model.params, model.config, model.tokenizer, TEXTS)
    expected = [model.score(text).log_probabilities.sum() if text else 0.0 for text in TEXTS]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)


def test_the_score_does_not_depend_on_the_other_texts(model: Model) -> None:
    score = functools.partial(score_texts, model.params, model.config, model.tokenizer)
    many = score(TEXTS * 100)
    np.testing.assert_allclose(many[:2], score(TEXTS[:2]), rtol=1e-5)
    assert len(many) == 400
    assert score([]).shape == (0,)


def test_the_score_of_the_trigram_is_the_product_of_its_probabilities(model: Model) -> None:
    tokenizer = model.tokenizer
    ids = [tokenizer.end_of_text, *tokenizer.encode("Vala. Vala ābra.")]
    trigram = WittenBell(ids, 3, tokenizer.vocab_size)
    expected = sum(math.log(trigram.probability(ids[i], ids[:i])) for i in range(1, len(ids)))
    [score] = score_with_trigram(trigram, tokenizer, ["Vala. Vala ābra."])
    assert score == pytest.approx(expected)


def test_a_tie_is_not_right() -> None:
    pair = Pair("order", "a b.", "b a.", "a", "a")
    margins = measure_margins([pair, pair], lambda texts: np.array([1.0, 1.0, 2.0, 1.0]))
    assert margins.tolist() == [0, 1]
    assert measure_accuracy(margins) == (2, 1)


def test_a_pair_is_seen_if_one_training_sentence_has_both_words() -> None:
    pairs = [
        Pair("verb-number", "Vala urnes.", "Vala urnesi.", "urnes", "urnesi", "vala"),
        Pair("verb-number", "Riña urnes.", "Riña urnesi.", "urnes", "urnesi", "riña"),
        Pair("statement", "Riña māzis.", "Riña māzio.", "māzis", "māzio"),
    ]
    assert find_seen_pairs(pairs, ["Vala riñe urnes.", "Riña māzis."]) == [True, False, True]


def test_a_pair_longer_than_the_context_does_not_fit(model: Model) -> None:
    pair = Pair("order", "Vala. " * 40, "Vala. " * 40, "", "")
    assert not fits_context(pair, model.tokenizer, model.config.n_positions)
    assert fits_context(pair._replace(right="Vala.", wrong="Vala."), model.tokenizer, 64)


@pytest.mark.slow
def test_the_report_has_every_rule_and_adds_up(report: PairReport) -> None:
    rules = {row.rule: row for row in report.rows if row.group == "all"}
    assert {*rules} == {"all", *RULES}
    total = rules.pop("all")
    assert total.model.pairs == sum(row.model.pairs for row in rules.values())
    assert total.model.right == sum(row.model.right for row in rules.values())
    assert len(report.failed) == total.model.pairs - total.model.right
    seen = [row.model.pairs for row in report.rows if row.rule == "all" and "seen" in row.group]
    assert sum(seen) == total.model.pairs


def test_the_shipped_model_is_better_than_chance_and_than_the_trigram(report: PairReport) -> None:
    total = report.rows[0]
    assert total.trigram
    assert total.model.interval[0] > 0.8
    assert total.model.share > total.trigram.share > 0.5


@pytest.mark.slow
def test_mistakes_of_the_model_itself_are_pairs(model: Model) -> None:
    pairs = list_own_mistakes(model.bundle, texts=40)
    assert pairs
    verdicts = [(check_sentence(p.right).verdict, check_sentence(p.wrong).verdict) for p in pairs]
    assert {*verdicts} == {("right", "mistake")}
