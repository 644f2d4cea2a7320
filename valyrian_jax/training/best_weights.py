"""The best weights of a run: evaluate, and write the weights with the lowest loss as a bundle."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from valyrian_jax.bundle.bundle import Bundle, save_bundle
from valyrian_jax.bundle.model_card import LANGUAGE
from valyrian_jax.bundle.names import unpad_config
from valyrian_jax.config import Config
from valyrian_jax.data.dataset import Dataset
from valyrian_jax.data.windows import EvalSet
from valyrian_jax.errors import UserError
from valyrian_jax.evaluation.evaluate import EvalStep, Evaluation, evaluate
from valyrian_jax.evaluation.text_metrics import measure_texts
from valyrian_jax.model import sharding
from valyrian_jax.model.parameters import Params, to_tensors, unpad_tensors
from valyrian_jax.tokenizer import END_OF_TEXT
from valyrian_jax.training import checkpoint, distributed
from valyrian_jax.training.checkpoint import CheckpointMetadata
from valyrian_jax.training.console import NameActivity, print_evaluation
from valyrian_jax.training.progress import is_due, update_progress
from valyrian_jax.training.step_report import StepReport
from valyrian_jax.training.train_step import TrainState

_CHECKED_TOKENS = 4096  # of the held-out part, to tell its language


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
        if self.dataset.entropy is not None:  # Logged every time, so that plots show a line.
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
