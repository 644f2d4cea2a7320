"""The samples of a run: a few texts to read, and more of them to measure."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh
from rich.console import Console

from valyrian_jax.bundle.text_generation import generate_many_texts
from valyrian_jax.config import Config, ModelConfig
from valyrian_jax.data.dataset import Dataset
from valyrian_jax.evaluation.text_metrics import measure_texts
from valyrian_jax.generation.generate import stream_tokens
from valyrian_jax.model import sharding
from valyrian_jax.model.activations import attention_weights
from valyrian_jax.model.parameters import Params
from valyrian_jax.tokenizer.display import token_label
from valyrian_jax.training.budget import TextBudget
from valyrian_jax.training.console import NameActivity, print_line
from valyrian_jax.training.metrics import MetricsLogger
from valyrian_jax.training.progress import is_due
from valyrian_jax.training.step_report import StepReport

_LOGGED_TEXTS = 3
_ATTENTION_TOKENS = 24


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
        """Sample and log texts if they are due; the report stays as it is."""
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
