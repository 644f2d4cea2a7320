"""The accuracy of a run on minimal pairs, by rule of the grammar."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from rich.console import Console

from valyrian_jax.config import Config
from valyrian_jax.data.dataset import Dataset
from valyrian_jax.evaluation.pairs import fits_context, measure_rules
from valyrian_jax.language.pairs.alteration import Pair
from valyrian_jax.language.pairs.pair_set import make_pairs
from valyrian_jax.language.pairs.rules import RULES
from valyrian_jax.model import sharding
from valyrian_jax.training import distributed
from valyrian_jax.training.console import NameActivity, print_line
from valyrian_jax.training.progress import is_due
from valyrian_jax.training.step_report import StepReport


@dataclass(frozen=True)
class MeasurePairs:
    """Measure the accuracy on minimal pairs of every rule, with the same pairs every time."""

    config: Config
    dataset: Dataset
    mesh: Mesh
    console: Console
    name_activity: NameActivity

    def __call__(self, report: StepReport) -> StepReport:
        """Add the accuracy by rule to the values, at every evaluation."""
        if not is_due(report.step, self.config.train.eval_every, self.config.train.steps):
            return report
        params = sharding.gather(report.state.params, self.mesh)
        if not distributed.is_primary():
            return report
        with self.name_activity("making pairs"):
            pairs = self.pairs
        with self.name_activity("evaluating"):
            weights = jax.tree.map(jnp.asarray, params)
            accuracies = measure_rules(weights, self.config.model, self.dataset.tokenizer, pairs)
        hardest = min(accuracies, key=lambda rule: accuracies[rule])
        mean = sum(accuracies.values()) / len(accuracies)
        print_line(
            self.console,
            f"step {report.step:>6}  minimal pairs: {mean:.1%} right, the mean of "
            f"{len(accuracies)} rules; lowest {hardest}: {accuracies[hardest]:.1%}",
        )
        values = {f"pairs/{rule}": accuracy for rule, accuracy in accuracies.items()}
        return report._replace(values=report.values | values | {"pairs/mean": mean})

    @functools.cached_property
    def pairs(self) -> list[Pair]:
        """Pairs that depend only on the tokenizer and the training text of the run."""
        tokenizer = self.dataset.tokenizer
        pairs_by_rule = make_pairs(
            RULES,
            self.config.train.pairs,
            0,
            lambda text: len(tokenizer.encode(text)),
            self.dataset.training_sentences or (),
        )
        length = self.config.model.n_positions
        pairs = (pair for rule_pairs in pairs_by_rule.values() for pair in rule_pairs)
        return [pair for pair in pairs if fits_context(pair, tokenizer, length)]
