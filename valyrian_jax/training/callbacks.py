"""What happens after a dispatch of steps: evaluate, keep the best weights, log, sample.

A callback is a small frozen dataclass that holds only what it uses. It is called with a report of the dispatch and
returns it, with what it adds. All processes of a run call it together, since the weights may be sharded over all of
them; the primary process writes.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh
from rich.console import Console

from valyrian_jax.bundle.bundle import Bundle, save_bundle
from valyrian_jax.bundle.names import unpad_config
from valyrian_jax.bundle.text_generation import generate_many_texts
from valyrian_jax.config import Config, ModelConfig
from valyrian_jax.data.dataset import Dataset
from valyrian_jax.errors import UserError
from valyrian_jax.evaluation.evaluate import EvalStep, Evaluation, evaluate, make_eval_step
from valyrian_jax.evaluation.text_metrics import measure_texts
from valyrian_jax.generation.generate import stream_tokens
from valyrian_jax.model import sharding
from valyrian_jax.model.gpt import attention_weights
from valyrian_jax.model.parameters import Params, to_tensors, unpad_tensors
from valyrian_jax.tokenizer.display import token_label
from valyrian_jax.training import checkpoint, distributed
from valyrian_jax.training.checkpoint import CheckpointMetadata
from valyrian_jax.training.console import print_evaluation, print_line
from valyrian_jax.training.metrics import MetricsLogger, NullLogger
from valyrian_jax.training.progress import Progress, is_due, update_progress
from valyrian_jax.training.setup import RunSetup
from valyrian_jax.training.train_step import TrainState

_SHOWN_TEXTS = 3
_JUDGED_TEXTS = 64
_ATTENTION_TOKENS = 24


class StepReport(NamedTuple):
    """What is known after a dispatch of steps."""

    step: int
    state: TrainState
    progress: Progress
    values: dict[str, float]  # to log


Callback = Callable[[StepReport], StepReport]


def make_callbacks(
    setup: RunSetup,
    metadata: CheckpointMetadata,
    logger: MetricsLogger | NullLogger,
    console: Console,
) -> list[Callback]:
    """Return the callbacks of a run, in the order in which they are called."""
    eval_step = make_eval_step(setup.config.model, setup.options)
    return [
        EvaluateAndKeepBest(
            setup.config, setup.dataset, setup.mesh, eval_step, setup.directory, metadata, console
        ),
        LogValues(logger),
        LogSamples(setup.config, setup.dataset, setup.mesh, logger, console),
    ]


@dataclass(frozen=True)
class EvaluateAndKeepBest:
    """Evaluate; if the held-out loss is the lowest so far, write the weights as the run's bundle."""

    config: Config
    dataset: Dataset
    mesh: Mesh
    eval_step: EvalStep
    directory: Path
    metadata: CheckpointMetadata
    console: Console

    def __call__(self, report: StepReport) -> StepReport:
        """Add the evaluation to the values and the progress, where one is due.

        Raises:
            UserError: The loss is not finite.
        """
        step, state, progress, values = report
        if not is_due(step, self.config.train.eval_every, self.config.train.steps):
            return report
        evaluation = evaluate(self.eval_step, state.params, self.dataset.eval_set, self.mesh)
        if not math.isfinite(evaluation.nats_per_token):
            failure = describe_failure(self.directory, state, self.mesh)
            raise UserError(f"the held-out loss at step {step} is not finite; {failure}")
        progress = update_progress(progress, step, *evaluation)
        if progress.best_step == step:
            params = sharding.gather(state.params, self.mesh)
            if distributed.is_primary():
                self._save_best(params, step, evaluation)
        print_evaluation(
            self.console, step, values["train/loss"], evaluation, progress.best_step == step
        )
        held_out = {f"held_out/{name}": value for name, value in evaluation._asdict().items()}
        if self.dataset.entropy is not None:  # every time, so that it is a line in the picture
            held_out["held_out/entropy_bits_per_byte"] = self.dataset.entropy
        return StepReport(step, state, progress, values | held_out)

    def _save_best(self, params: Params, step: int, evaluation: Evaluation) -> None:
        manifest = {
            "config": self.metadata.config,
            "corpus_sha256": self.metadata.corpus_sha256,
            "versions": self.metadata.versions,
            "step": step,
            "held_out": evaluation._asdict(),
        }
        tensors = unpad_tensors(to_tensors(params), self.config.model)
        best = Bundle(unpad_config(self.config.model), tensors, self.dataset.tokenizer, manifest)
        save_bundle(best, self.directory / "bundle")


@dataclass(frozen=True)
class LogValues:
    """Write the numbers of a dispatch to the log."""

    logger: MetricsLogger | NullLogger

    def __call__(self, report: StepReport) -> StepReport:
        """Log the values of a report."""
        self.logger.log(report.step, report.values)
        return report


@dataclass(frozen=True)
class LogSamples:
    """Draw texts and log them; judge more of them where the language's grammar wrote the corpus."""

    config: Config
    dataset: Dataset
    mesh: Mesh
    logger: MetricsLogger | NullLogger
    console: Console

    def __call__(self, report: StepReport) -> StepReport:
        """Log texts, where they are due."""
        if not is_due(report.step, self.config.train.sample_every, self.config.train.steps):
            return report
        params = sharding.gather(report.state.params, self.mesh)
        if distributed.is_primary():
            self._sample(jax.tree.map(jnp.asarray, params), report.step)
        return report

    def _sample(self, params: Params, step: int) -> None:
        training = self.dataset.training_sentences
        generate = functools.partial(stream_tokens, params, self.config.model)
        count = _SHOWN_TEXTS if training is None else _JUDGED_TEXTS
        texts = list(
            generate_many_texts(generate, self.dataset.tokenizer, self.config.sample, count)
        )
        if self.logger.draws:
            self.logger.log_attention(
                step, *held_out_attention(params, self.config.model, self.dataset)
            )
        self.logger.log_text(step, texts[:_SHOWN_TEXTS])
        line = f"  {texts[0].strip()}"
        if training is not None:
            quality = measure_texts(texts, training)
            self.logger.log(
                step, {f"samples/{name}": value for name, value in quality._asdict().items()}
            )
            rates = f"{quality.grammatical:.1%} grammatical, {quality.new:.1%} new"
            line += f"\n  {quality.sentences} sampled sentences: {rates}"
        print_line(self.console, line)


def held_out_attention(
    params: Params, model: ModelConfig, dataset: Dataset
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Return where every head looks in the first held-out tokens: their labels [T], and weights [L, H, T, T]."""
    tokens = dataset.eval_set.windows.tokens[0, 0, : min(_ATTENTION_TOKENS, model.n_positions)]
    weights = attention_weights(params, jnp.asarray(tokens[None]), model)
    return [token_label(dataset.tokenizer, token) for token in tokens.tolist()], np.asarray(
        weights[:, 0]
    )


def describe_failure(directory: Path, state: TrainState, mesh: Mesh) -> str:
    """Describe the last good checkpoint and the parameter norms, for an error message."""
    norms = {
        name: float(np.linalg.norm(tensor.astype(np.float64)))
        for name, tensor in to_tensors(sharding.gather(state.params, mesh)).items()
    }
    largest = ", ".join(
        f"{name} {norms[name]:.3g}" for name in sorted(norms, key=norms.__getitem__)[:-4:-1]
    )
    total = math.sqrt(sum(norm**2 for norm in norms.values()))
    last = checkpoint.describe_last(directory / "checkpoints")
    return f"{last}; parameter norms: {total:.3g} in all, {largest}"
