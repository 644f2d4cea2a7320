"""Fit the scaling law L = E + A / N^a + B / D^b to runs (Hoffmann et al. 2022, approach 3).

The logarithms of predicted and measured losses are compared by Huber loss with delta 1e-3, from a
grid of starts, by L-BFGS. Intervals are those of the bootstrap: 2.5% and 97.5% of the fits to runs
drawn with replacement (Efron and Tibshirani 1993, chapter 13).
"""

import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import logsumexp

DELTA = 1e-3
# Logarithms of the three terms at the mean sizes, and the exponents.
_STARTS = [
    (log_a, log_b, -0.3, exponent, exponent)
    for log_a, log_b, exponent in itertools.product((-3.0, -1.0), (-3.0, -1.0), (0.3, 0.6))
]

Float64 = npt.NDArray[np.float64]


class Law(NamedTuple):
    """The constants of a scaling law; E is the loss that no model and no data can lower."""

    E: float
    A: float
    B: float
    a: float
    b: float

    def predict(self, parameters: Float64, tokens: Float64) -> Float64:
        """Return the losses of models of these sizes, trained on so many tokens."""
        return self.E + self.A * parameters**-self.a + self.B * tokens**-self.b

    def allocate(self, compute: float) -> tuple[float, float]:
        """Return the parameters and tokens of the lowest loss for 6 N D floating-point operations.

        Equation 4 of Hoffmann et al. 2022.
        """
        ratio = (self.a * self.A / (self.b * self.B)) ** (1 / (self.a + self.b))
        share = self.b / (self.a + self.b)
        return ratio * (compute / 6) ** share, (compute / 6) ** (1 - share) / ratio


def fit_law(parameters: Float64, tokens: Float64, losses: Float64, start: Law | None = None) -> Law:
    """Fit a law to runs.

    Args:
        parameters: Number of parameters of each run.
        tokens: Number of its training tokens.
        losses: Its held-out loss.
        start: Where to start; None tries a grid.
    """
    logs = np.log(parameters), np.log(tokens), np.log(losses)
    # With sizes relative to their mean, the constants depend less on each other.
    means = np.array([logs[0].mean(), logs[1].mean()])
    data = logs[0] - means[0], logs[1] - means[1], logs[2]
    starts = [_to_vector(start, means)] if start else [np.array(values) for values in _STARTS]
    fits = [minimize(_objective, first, data, jac=True, method="L-BFGS-B") for first in starts]
    return _to_law(min(fits, key=lambda fit: fit.fun).x, means)


def bootstrap_law(
    parameters: Float64, tokens: Float64, losses: Float64, law: Law, count: int, seed: int = 0
) -> tuple[Law, Law]:
    """Return the lower and upper bounds of the 95% interval of every constant of a fitted law."""
    random, fits = np.random.default_rng(seed), []
    for _ in range(count):
        rows = random.integers(len(losses), size=len(losses))
        fits.append(fit_law(parameters[rows], tokens[rows], losses[rows], law))
    low, high = np.quantile(np.array(fits), (0.025, 0.975), axis=0)
    return Law(*low.tolist()), Law(*high.tolist())


def _objective(
    vector: Float64, parameters: Float64, tokens: Float64, losses: Float64
) -> tuple[float, Float64]:
    """Return the Huber loss of the logarithms and its gradient."""
    log_a, log_b, log_e, a, b = vector
    terms = np.stack([log_a - a * parameters, log_b - b * tokens, np.full_like(losses, log_e)])
    predicted = logsumexp(terms, axis=0)
    residuals = predicted - losses
    slopes = np.clip(residuals, -DELTA, DELTA)
    shares = np.exp(terms - predicted) * slopes  # the derivatives by the three terms
    gradient = [
        *shares.sum(axis=1),
        -(shares[0] * parameters).sum(),
        -(shares[1] * tokens).sum(),
    ]
    size = np.abs(residuals)
    huber = np.where(size <= DELTA, residuals**2 / 2, DELTA * (size - DELTA / 2))
    # Scaled, or the optimizer would stop at once: its tolerances are absolute.
    return float(huber.sum()) / DELTA**2, np.array(gradient) / DELTA**2


def _to_vector(law: Law, means: Float64) -> Float64:
    exponents = np.array([law.a, law.b])
    terms = np.log([law.A, law.B]) - exponents * means
    return np.array([*terms, np.log(law.E), *exponents])


def _to_law(vector: Float64, means: Float64) -> Law:
    exponents = vector[3:]
    A, B = np.exp(vector[:2] + exponents * means).tolist()
    return Law(float(np.exp(vector[2])), A, B, *exponents.tolist())
