"""Loss over the whole held-out part, and when to stop because it no longer falls."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from valyrian_jax import corpus, model, runs, step
from valyrian_jax.corpus import HeldOut
from valyrian_jax.errors import UserError
from valyrian_jax.model import Params


class Evaluation(NamedTuple):
    """Cross-entropy of the held-out part; bits per byte do not depend on the tokenizer."""

    nats_per_token: float
    bits_per_byte: float


@dataclass(frozen=True)
class Progress:
    """The best evaluation so far; it is saved with every checkpoint."""

    corpus_sha256: str
    best_step: int = 0
    best_loss: float = math.inf
    best_bits_per_byte: float = math.inf
    evaluations_since_best: int = 0


def evaluate(eval_step: step.EvalStep, params: Params, held_out: HeldOut) -> Evaluation:
    """Loss over every held-out token, always in the same order, each window starting without context."""
    nats = float(np.sum(np.asarray(eval_step(params, *map(jnp.asarray, held_out.windows))), dtype=np.float64))
    return Evaluation(nats / int(held_out.windows.counted.sum()), nats / math.log(2) / held_out.size)


def evaluate_run(directory: Path) -> Evaluation:
    """Loss of a run's best weights over the held-out part of its text.

    Raises:
        UserError: the run has no bundle, or its text has changed.
    """
    config, best = runs.load_config(directory), runs.load_bundle(directory)
    text = corpus.read(config)
    if text.sha256 != best.manifest.get("corpus_sha256"):
        raise UserError(f"the corpus {config.data.path} has changed since {directory} was trained on it")
    held_out = corpus.hold_out(text, config, best.tokenizer, directory)
    return evaluate(step.make_eval_step(best.model), model.from_tensors(best.tensors), held_out)


def judged(progress: Progress, done: int, evaluation: Evaluation) -> Progress:
    """Progress after the evaluation at step `done`."""
    if evaluation.nats_per_token < progress.best_loss:
        return Progress(progress.corpus_sha256, done, *evaluation, evaluations_since_best=0)
    return replace(progress, evaluations_since_best=progress.evaluations_since_best + 1)


def out_of_patience(progress: Progress, patience: int) -> bool:
    """Whether the held-out loss has not fallen for `patience` evaluations; never if that is 0."""
    return 0 < patience <= progress.evaluations_since_best
