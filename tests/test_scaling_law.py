"""The fit of the scaling law finds the constants that made the data."""

import numpy as np
import pytest

from tests.bench.scaling_fit import Law, bootstrap_law, fit_law
from tests.bench.scaling_law import PLAN, count_parameters, estimate_seconds

LAW = Law(E=0.75, A=30.0, B=400.0, a=0.45, b=0.55)
SIZES, TOKENS = (
    array.ravel()
    for array in np.meshgrid(np.geomspace(1e5, 3e6, 5), np.geomspace(1e6, 2e7, 5), indexing="ij")
)


def test_the_fit_finds_the_constants_of_exact_data() -> None:
    found = fit_law(SIZES, TOKENS, LAW.predict(SIZES, TOKENS))
    assert found == pytest.approx(LAW, rel=0.01)


def test_the_interval_has_the_constants_of_noisy_data() -> None:
    noise = np.random.default_rng(0).normal(0, 5e-4, len(SIZES))
    losses = LAW.predict(SIZES, TOKENS) * np.exp(noise)
    found = fit_law(SIZES, TOKENS, losses)
    assert pytest.approx(LAW.E, rel=0.03) == found.E
    low, high = bootstrap_law(SIZES, TOKENS, losses, found, 40)
    assert low.E < LAW.E < high.E
    assert high.E - low.E < 0.2


def test_one_run_that_failed_does_not_change_the_law() -> None:
    losses = LAW.predict(SIZES, TOKENS)
    losses[7] *= 3
    assert pytest.approx(LAW.E, rel=0.03) == fit_law(SIZES, TOKENS, losses).E


def test_the_allocation_is_the_best_for_its_compute() -> None:
    parameters, tokens = LAW.allocate(1e14)
    assert 6 * parameters * tokens == pytest.approx(1e14)
    others = parameters * np.geomspace(0.1, 10, 201)
    assert LAW.predict(np.array([parameters]), np.array([tokens]))[0] <= np.min(
        LAW.predict(others, 1e14 / 6 / others)
    ) * (1 + 1e-9)


def test_the_plan_has_about_25_runs_of_at_least_three_widths() -> None:
    assert 20 <= len(PLAN) <= 30
    assert len({run.width for run in PLAN}) >= 3
    assert {run.sentences for run in PLAN} >= {62_500, 1_000_000}
    assert sum(map(estimate_seconds, PLAN)) < 4 * 3600


def test_parameters_are_those_of_the_model() -> None:
    assert count_parameters(128) == 12 * 4 * 128**2 + 4 * 13 * 128 + 2 * 128 + 128 * (
        500 + 64 + 500
    )
