"""Callbacks of a run, called after every dispatch: evaluate, keep the best weights, log, sample.

A callback is a small frozen dataclass with only what it uses. It takes the report of a dispatch and
returns it with its own additions. All processes of a run call it together, because the weights may
be sharded over all of them; only the primary process writes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console

from valyrian_jax.evaluation.evaluate import make_eval_step
from valyrian_jax.training.best_weights import EvaluateAndKeepBest
from valyrian_jax.training.budget import limit_eval_set, limit_texts
from valyrian_jax.training.console import NameActivity, print_line
from valyrian_jax.training.metrics import MetricsLogger
from valyrian_jax.training.rule_accuracy import MeasurePairs
from valyrian_jax.training.sample_texts import LogSamples
from valyrian_jax.training.setup import RunContext
from valyrian_jax.training.step_report import StepReport

Callback = Callable[[StepReport], StepReport]


def make_callbacks(
    run: RunContext,
    logger: MetricsLogger | None,
    console: Console,
    name_activity: NameActivity,
) -> list[Callback]:
    """Return the callbacks of a run in the order of their calls; only the primary process logs."""
    setup, _, metadata = run
    config, dataset, mesh = setup.config, setup.dataset, setup.mesh
    eval_step = make_eval_step(config.model, setup.options)
    whole = dataset.eval_set
    eval_set = limit_eval_set(whole, config, setup.options)
    budget = limit_texts(config, setup.options)
    counted, total = int(eval_set.windows.counted.sum()), int(whole.windows.counted.sum())
    if counted < total:
        print_line(
            console,
            f"the held-out loss of this run covers {counted:,} of {total:,} held-out tokens, to "
            "save time; `python -m valyrian_jax eval` covers all",
        )
    has_pairs = config.train.pairs > 0 and dataset.training_sentences is not None
    return [
        EvaluateAndKeepBest(
            config,
            dataset,
            eval_set,
            mesh,
            eval_step,
            setup.directory,
            metadata,
            console,
            name_activity,
        ),
        *([MeasurePairs(config, dataset, mesh, console, name_activity)] if has_pairs else []),
        *([LogValues(logger)] if logger else []),
        LogSamples(config, dataset, budget, mesh, logger, console, name_activity),
    ]


@dataclass(frozen=True)
class LogValues:
    """Log the values of every dispatch."""

    logger: MetricsLogger

    def __call__(self, report: StepReport) -> StepReport:
        """Log the values."""
        self.logger.log(report.step, report.values)
        return report
