"""Loss over the whole held-out part, when to stop because it no longer falls, and how good a run's texts are."""

import functools
import math
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from valyrian_jax import quality, step
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.text_generation import generate_many_texts
from valyrian_jax.config import Config, SampleConfig
from valyrian_jax.data import shards
from valyrian_jax.data.corpus_entropy import entropy_floor, load_source
from valyrian_jax.data.dataset import EvalSet, Text, hold_out, hold_out_shards, read, read_shards
from valyrian_jax.data.text import count_bytes, encode_documents, find_sentences
from valyrian_jax.errors import UserError
from valyrian_jax.generation.generate import stream_tokens
from valyrian_jax.model import sharding
from valyrian_jax.model.parameters import Params, from_tensors
from valyrian_jax.quality import Quality
from valyrian_jax.run_directory import load_run_bundle, load_run_config
from valyrian_jax.tokenizer import Tokenizer
from valyrian_jax.trigram import WittenBell

# How the texts are drawn that a run is judged by.
JUDGED = SampleConfig(prompt="", max_new_tokens=150, temperature=1.0, top_k=0, top_p=0.9, seed=0)


class Evaluation(NamedTuple):
    """Cross-entropy of the held-out part; bits per byte do not depend on the tokenizer."""

    nats_per_token: float
    bits_per_byte: float


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Progress:
    """What a run has seen of itself so far, beside its state; it is saved with every checkpoint."""

    best_step: int = 0
    best_loss: float = math.inf
    best_bits_per_byte: float = math.inf
    evaluations_since_best: int = 0
    skipped_steps: int = 0


def evaluate(eval_step: step.EvalStep, params: Params, held_out: EvalSet, mesh: Mesh | None = None) -> Evaluation:
    """Loss over every held-out token, always in the same order; `data.windows` says what each token sees."""
    windows = sharding.shard(held_out.windows, sharding.batch_sharding(mesh or sharding.single_device_mesh()))
    nats = float(np.sum(np.asarray(eval_step(params, *windows)), dtype=np.float64))
    return Evaluation(nats / int(held_out.windows.counted.sum()), nats / math.log(2) / held_out.size)


def evaluate_run(directory: Path) -> Evaluation:
    """Loss of a run's best weights over the held-out part of its text.

    Raises:
        UserError: the run has no bundle, or its text has changed.
    """
    config, best = _opened(directory)
    if shards.is_shard_directory(config.data.path):
        return _loss(best, _held_out_shards(directory, config, best))
    return _loss(best, hold_out(_text(directory, config, best), config, best.tokenizer, directory))


class Line(NamedTuple):
    """One line of a report: the model, a trigram model, or the held-out text itself. None = does not apply."""

    nats_per_token: float | None
    bits_per_byte: float | None
    above_source: float | None  # bits per byte
    quality: Quality | None


def report(directory: Path, texts: int) -> dict[str, Line]:
    """A run's best weights beside a trigram model and the true text.

    Args:
        directory: of the run.
        texts: how many texts to draw from each model. Texts are judged only where the language's own grammar is the
            source of the corpus, and of shards only the model's loss is reported.

    Raises:
        UserError: the run has no bundle, or its text has changed.
    """
    config, best = _opened(directory)
    if shards.is_shard_directory(config.data.path):  # too much to count trigrams in
        return {"model": Line(*_loss(best, _held_out_shards(directory, config, best)), None, None)}
    text = _text(directory, config, best)
    known = load_source(config.data.path, text.sha256)
    entropy = entropy_floor(known, text.parts.held_out).bits_per_byte if known else None
    training = set(find_sentences(text.parts.train)) if known else set()
    loss = _loss(best, hold_out(text, config, best.tokenizer, directory))
    found = Line(*loss, None if entropy is None else loss.bits_per_byte - entropy, None)
    lines = {
        "model": found,
        "trigram": _trigram(text, directory, best.tokenizer, entropy, training, texts if known else 0),
    }
    if known and texts:
        generate = functools.partial(stream_tokens, from_tensors(best.tensors), best.model)
        drawn = generate_many_texts(generate, best.tokenizer, JUDGED, texts)
        lines["model"] = found._replace(quality=quality.measure(drawn, training))
    if known:
        own = quality.measure(text.parts.held_out, training)
        lines["held-out text"] = Line(None, entropy, 0.0, own)
    return lines


def _opened(directory: Path) -> tuple[Config, Bundle]:
    """A run's configuration and best weights."""
    return load_run_config(directory), load_run_bundle(directory)


def _text(directory: Path, config: Config, best: Bundle) -> Text:
    """A run's text."""
    text = read(config)
    _check_unchanged(directory, config, best, text.sha256)
    return text


def _held_out_shards(directory: Path, config: Config, best: Bundle) -> EvalSet:
    """The held-out part of a run's shards."""
    parts = read_shards(config)
    _check_unchanged(directory, config, best, shards.sha256(parts.shards.index))
    return hold_out_shards(parts, config)


def _check_unchanged(directory: Path, config: Config, best: Bundle, sha256: str) -> None:
    if sha256 != best.manifest.get("corpus_sha256"):
        raise UserError(f"the corpus {config.data.path} has changed since {directory} was trained on it")


def _loss(best: Bundle, held_out: EvalSet) -> Evaluation:
    """Loss of a bundle over a held-out part."""
    return evaluate(step.make_eval_step(best.model), from_tensors(best.tensors), held_out)


def _trigram(
    text: Text, directory: Path, tokenizer: Tokenizer, entropy: float | None, training: Collection[str], texts: int
) -> Line:
    """A trigram model on the same tokens."""
    end = tokenizer.end_of_text
    train, held_out = (encode_documents(part, tokenizer, directory).tolist() for part in text.parts)
    trigram = WittenBell(train, 3, tokenizer.vocab_size)
    nats = trigram.nats(held_out)
    bits = nats * (len(held_out) - 1) / math.log(2) / count_bytes(text.parts.held_out)
    rows = (trigram.sample(end, end, JUDGED.max_new_tokens, JUDGED.top_p, seed) for seed in range(texts))
    found = quality.measure(map(tokenizer.decode, rows), training) if texts else None
    return Line(nats, bits, None if entropy is None else bits - entropy, found)


def judged(progress: Progress, done: int, evaluation: Evaluation) -> Progress:
    """Progress after the evaluation at step `done`."""
    if evaluation.nats_per_token < progress.best_loss:
        return Progress(done, *evaluation, evaluations_since_best=0, skipped_steps=progress.skipped_steps)
    return replace(progress, evaluations_since_best=progress.evaluations_since_best + 1)


def out_of_patience(progress: Progress, patience: int) -> bool:
    """Whether the held-out loss has not fallen for `patience` evaluations; never if that is 0."""
    return 0 < patience <= progress.evaluations_since_best
