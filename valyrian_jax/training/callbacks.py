"""Callbacks of a run, called after every dispatch: evaluate, keep the best weights, log, sample.

A callback is a small frozen dataclass that holds only what it uses. It takes the report of a
dispatch and returns it with its own additions. All processes of a run call it together, because the
weights may be sharded over all of them; only the primary process writes.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh
from rich.console import Console

from valyrian_jax.bundle.bundle import Bundle, save_bundle
from valyrian_jax.bundle.model_card import LANGUAGE
from valyrian_jax.bundle.names import unpad_config
from valyrian_jax.bundle.text_generation import generate_many_texts
from valyrian_jax.config import Config, ModelConfig
from valyrian_jax.data.dataset import Dataset
from valyrian_jax.data.windows import EvalSet
from valyrian_jax.errors import UserError
from valyrian_jax.evaluation.evaluate import EvalStep, Evaluation, evaluate, make_eval_step
from valyrian_jax.evaluation.pairs import fits_context, measure_rules
from valyrian_jax.evaluation.text_metrics import measure_texts
from valyrian_jax.generation.generate import stream_tokens
from valyrian_jax.language.pairs.alteration import Pair
from valyrian_jax.language.pairs.pair_set import make_pairs
from valyrian_jax.language.pairs.rules import RULES
from valyrian_jax.model import sharding
from valyrian_jax.model.activations import attention_weights
from valyrian_jax.model.parameters import Params, to_tensors, unpad_tensors
from valyrian_jax.tokenizer import END_OF_TEXT
from valyrian_jax.tokenizer.display import token_label
from valyrian_jax.training import checkpoint, distributed
from valyrian_jax.training.budget import TextBudget, limit_eval_set, limit_texts
from valyrian_jax.training.checkpoint import CheckpointMetadata
from valyrian_jax.training.console import NameActivity, print_evaluation, print_line
from valyrian_jax.training.metrics import MetricsLogger
from valyrian_jax.training.progress import Progress, is_due, update_progress
from valyrian_jax.training.setup import RunContext
from valyrian_jax.training.train_step import TrainState

_LOGGED_TEXTS = 3
_ATTENTION_TOKENS = 24
_CHECKED_TOKENS = 4096  # of the held-out part, to tell its language


class StepReport(NamedTuple):
    """The result of a dispatch of steps."""

    step: int
    state: TrainState
    progress: Progress
    values: dict[str, float]  # to log, by name


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
class EvaluateAndKeepBest:
    """Evaluate; if the held-out loss is the lowest so far, write the weights as the bundle."""

    config: Config
    dataset: Dataset
    eval_set: EvalSet
    mesh: Mesh
    eval_step: EvalStep
    directory: Path
    metadata: CheckpointMetadata
    console: Console
    name_activity: NameActivity

    def __call__(self, report: StepReport) -> StepReport:
        """Add the evaluation to the values and the progress, if one is due.

        Raises:
            UserError: The loss is not finite.
        """
        step, state, progress, values = report
        if not is_due(step, self.config.train.eval_every, self.config.train.steps):
            return report
        with self.name_activity("evaluating"):
            evaluation = evaluate(self.eval_step, state.params, self.eval_set, self.mesh)
        if not math.isfinite(evaluation.nats_per_token):
            failure = describe_failure(self.directory, state, self.mesh)
            raise UserError(
                f"the held-out loss at step {step} is not finite; {failure}; try a lower --optim.lr"
            )
        progress = update_progress(progress, step, *evaluation)
        is_best = progress.best_step == step
        if is_best:
            params = sharding.gather(state.params, self.mesh)
            if distributed.is_primary():
                self._save_best(params, step, evaluation)
        print_evaluation(self.console, step, values["train/loss"], evaluation, is_best)
        held_out = {f"held_out/{name}": value for name, value in evaluation._asdict().items()}
        if self.dataset.entropy is not None:  # Constant, so that plots show it as a line.
            held_out["held_out/entropy_bits_per_byte"] = self.dataset.entropy
        return StepReport(step, state, progress, values | held_out)

    def _save_best(self, params: Params, step: int, evaluation: Evaluation) -> None:
        manifest: dict[str, Any] = {
            "config": self.metadata.config,
            "corpus_sha256": self.metadata.corpus_sha256,
            "versions": self.metadata.versions,
            "step": step,
            "held_out": evaluation._asdict(),
        }
        if self.metadata.split:
            manifest["split"] = asdict(self.metadata.split)
        if self.dataset.overlap:
            manifest["overlap"] = self.dataset.overlap._asdict()
        if self.dataset.entropy is not None:
            manifest["held_out"]["entropy_bits_per_byte"] = self.dataset.entropy
        elif has_valyrian_words(self.dataset):
            manifest["language"] = LANGUAGE
        if self.metadata.base_model:
            manifest["base_model"] = self.metadata.base_model
        tensors = unpad_tensors(to_tensors(params), self.config.model)
        bundle = Bundle(unpad_config(self.config.model), tensors, self.dataset.tokenizer, manifest)
        save_bundle(bundle, self.directory / "bundle")


def has_valyrian_words(dataset: Dataset) -> bool:
    """Return whether most words at the beginning of the held-out text are High Valyrian."""
    tokens = dataset.eval_set.windows.tokens[0, ::2, :-1]  # Windows overlap by half.
    text = dataset.tokenizer.decode(tokens.ravel()[:_CHECKED_TOKENS].tolist())
    return measure_texts(text.split(END_OF_TEXT), ()).known_words > 0.5


@dataclass(frozen=True)
class MeasurePairs:
    """Measure the accuracy in minimal pairs of every rule, with the same pairs every time."""

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
        """Pairs that do not depend on the run, except for its tokens and its training text."""
        tokenizer = self.dataset.tokenizer
        made = make_pairs(
            RULES,
            self.config.train.pairs,
            0,
            lambda text: len(tokenizer.encode(text)),
            self.dataset.training_sentences or (),
        )
        length = self.config.model.n_positions
        return [p for pairs in made.values() for p in pairs if fits_context(p, tokenizer, length)]


@dataclass(frozen=True)
class LogValues:
    """Log the values of every dispatch."""

    logger: MetricsLogger

    def __call__(self, report: StepReport) -> StepReport:
        """Log the values."""
        self.logger.log(report.step, report.values)
        return report


@dataclass(frozen=True)
class LogSamples:
    """Sample texts and log them; measure more of them if the grammar generated the corpus."""

    config: Config
    dataset: Dataset
    budget: TextBudget
    mesh: Mesh
    logger: MetricsLogger | None
    console: Console
    name_activity: NameActivity

    def __call__(self, report: StepReport) -> StepReport:
        """Log texts, if they are due."""
        if not is_due(report.step, self.config.train.sample_every, self.config.train.steps):
            return report
        params = sharding.gather(report.state.params, self.mesh)
        if self.logger:
            with self.name_activity("sampling"):
                self._sample(jax.tree.map(jnp.asarray, params), report.step, self.logger)
        return report

    def _sample(self, params: Params, step: int, logger: MetricsLogger) -> None:
        model, tokenizer = self.config.model, self.dataset.tokenizer
        training_sentences = self.dataset.training_sentences
        generate = functools.partial(
            stream_tokens, params, model, end_of_text=tokenizer.end_of_text
        )
        count, batch_size = self.budget
        count = min(count, _LOGGED_TEXTS) if training_sentences is None else count
        sample = self.config.sample
        texts = [*generate_many_texts(generate, tokenizer, sample, count, batch_size)]
        if logger.wants_attention:
            logger.log_attention(step, *attend_to_held_out(params, model, self.dataset))
        logger.log_text(step, texts[:_LOGGED_TEXTS])
        print_line(self.console, f"step {step:>6}  sample  {texts[0].strip()}")
        if training_sentences is not None:
            quality = measure_texts(texts, training_sentences)
            values = {f"samples/{k}": v for k, v in quality._asdict().items() if v is not None}
            logger.log(step, values)
            print_line(
                self.console,
                f"step {step:>6}  {quality.sentences} sampled sentences: "
                f"{quality.grammatical:.1%} grammatical, {quality.new:.1%} new",
            )


def attend_to_held_out(
    params: Params, config: ModelConfig, dataset: Dataset
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Return the labels [T] and the attention weights [L, H, T, T] of the first held-out tokens."""
    length = min(_ATTENTION_TOKENS, config.n_positions)
    tokens = dataset.eval_set.windows.tokens[0, 0, :length]
    weights = attention_weights(params, jnp.asarray(tokens[None]), config)
    labels = [token_label(dataset.tokenizer, token) for token in tokens.tolist()]
    return labels, np.asarray(weights[:, 0])


def describe_failure(directory: Path, state: TrainState, mesh: Mesh) -> str:
    """Describe the last good checkpoint and the parameter norms, for an error message."""
    norms = {
        name: float(np.linalg.norm(tensor.astype(np.float64)))
        for name, tensor in to_tensors(sharding.gather(state.params, mesh)).items()
    }
    largest = sorted(norms, key=norms.__getitem__)[:-4:-1]
    total = math.sqrt(sum(norm**2 for norm in norms.values()))
    last = checkpoint.describe_last(directory / "checkpoints")
    listed = ", ".join(f"{name} {norms[name]:.3g}" for name in largest)
    return f"{last}; parameter norms: {total:.3g} in total, {listed}"
