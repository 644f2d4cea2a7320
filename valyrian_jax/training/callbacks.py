"""What a run makes of its weights while it trains: evaluations, the bundle of the best, texts, maps of attention.

All processes of a run come here together, since the weights may lie on all of them; the first one writes.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from valyrian_jax.bundle.bundle import Bundle, save_bundle
from valyrian_jax.bundle.names import unpad_config
from valyrian_jax.bundle.text_generation import generate_many_texts
from valyrian_jax.config import config_to_tree
from valyrian_jax.errors import UserError
from valyrian_jax.evaluation.evaluate import EvalStep, Evaluation, evaluate
from valyrian_jax.evaluation.text_metrics import measure_texts
from valyrian_jax.generation.generate import stream_tokens
from valyrian_jax.model import sharding
from valyrian_jax.model.gpt import attention_weights
from valyrian_jax.model.parameters import Params, to_tensors, unpad_tensors
from valyrian_jax.tokenizer.display import token_label
from valyrian_jax.training import checkpoint, distributed
from valyrian_jax.training.console import print_line
from valyrian_jax.training.progress import Progress, update_progress
from valyrian_jax.training.session import RunContext
from valyrian_jax.training.state import TrainState

_SAMPLE_ROWS = 3  # texts that are shown
_JUDGED_ROWS = 64  # texts that are judged
_MAPPED_TOKENS = 24  # in which attention is shown


def evaluate_and_save_best(
    session: RunContext, eval_step: EvalStep, current: TrainState, progress: Progress
) -> tuple[Progress, Evaluation]:
    """Evaluate; if the weights are the best so far, write them as the run's bundle.

    Raises:
        UserError: the loss is not finite.
    """
    found = evaluate(eval_step, current.params, session.corpus.held_out, session.mesh)
    done = int(current.step)
    if not math.isfinite(found.nats_per_token):
        raise UserError(f"the held-out loss at step {done} is not finite; {describe_failure(session, current)}")
    progress = update_progress(progress, done, found)
    if progress.best_step == done:
        best = sharding.gather(current.params, session.mesh)
        if distributed.is_primary():
            save_best(session, best, done, found)
    return progress, found


def save_best(session: RunContext, params: Params, done: int, found: Evaluation) -> None:
    """Write weights as the run's bundle, in place of those before."""
    manifest = {
        "config": config_to_tree(session.config),
        "corpus_sha256": session.corpus.sha256,
        "versions": session.origin.versions,
        "step": done,
        "held_out": found._asdict(),
    }
    tensors = unpad_tensors(to_tensors(params), session.config.model)
    best = Bundle(unpad_config(session.config.model), tensors, session.corpus.tokenizer, manifest)
    save_bundle(best, session.directory / "bundle")


def log_samples(session: RunContext, current: TrainState) -> None:
    """Draw texts, log them, and judge more of them where the language's grammar is the source of the corpus."""
    config, step_now, training = session.config, int(current.step), session.corpus.sentences
    params = sharding.gather(current.params, session.mesh)
    if not distributed.is_primary():
        return
    params = jax.tree.map(jnp.asarray, params)
    generate = functools.partial(stream_tokens, params, config.model)
    count = _SAMPLE_ROWS if training is None else _JUDGED_ROWS
    texts = list(generate_many_texts(generate, session.corpus.tokenizer, config.sample, count))
    if session.tracker.draws:
        session.tracker.log_attention(step_now, *heldout_attention(session, params))
    session.tracker.log_text(step_now, texts[:_SAMPLE_ROWS])
    line = f"  {texts[0].strip()}"
    if training is not None:
        found = measure_texts(texts, training)
        session.tracker.log(step_now, {f"samples/{name}": value for name, value in found._asdict().items()})
        line += f"\n  of {found.sentences} such sentences {found.grammatical:.1%} are grammatical, {found.new:.1%} new"
    print_line(session.console, line)


def heldout_attention(session: RunContext, params: Params) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Where every head looks in the first tokens of the held-out part: their labels [T], weights [L, H, T, T]."""
    count = min(_MAPPED_TOKENS, session.config.model.n_positions)
    tokens = session.corpus.held_out.windows.tokens[0, 0, :count]
    weights = attention_weights(params, jnp.asarray(tokens[None]), session.config.model)
    labels = [token_label(session.corpus.tokenizer, token) for token in tokens.tolist()]
    return labels, np.asarray(weights[:, 0])


def describe_failure(session: RunContext, current: TrainState) -> str:
    """The last good checkpoint and the norms of the parameters, for a message."""
    sizes = {
        name: float(np.linalg.norm(tensor.astype(np.float64)))
        for name, tensor in to_tensors(sharding.gather(current.params, session.mesh)).items()
    }
    largest = ", ".join(f"{name} {sizes[name]:.3g}" for name in sorted(sizes, key=sizes.__getitem__)[:-4:-1])
    whole = math.sqrt(sum(size**2 for size in sizes.values()))
    return (
        f"{checkpoint.describe_last(session.directory / 'checkpoints')}; parameter norms: {whole:.3g} in all, {largest}"
    )
