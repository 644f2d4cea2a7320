"""Loss over the whole held-out part, when to stop because it no longer falls, and how good a run's texts are."""

import functools
import math
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.text_generation import generate_many_texts
from valyrian_jax.config import Config, SampleConfig
from valyrian_jax.data import shards
from valyrian_jax.data.corpus_entropy import entropy_floor, load_source
from valyrian_jax.data.dataset import EvalSet, Text, hold_out, hold_out_shards, read, read_shards
from valyrian_jax.data.text import count_bytes, encode_documents, find_sentences
from valyrian_jax.errors import UserError
from valyrian_jax.evaluation.evaluate import Evaluation, evaluate, make_eval_step
from valyrian_jax.evaluation.ngram import WittenBell
from valyrian_jax.evaluation.text_metrics import TextMetrics, measure_texts
from valyrian_jax.generation.generate import stream_tokens
from valyrian_jax.model.parameters import from_tensors
from valyrian_jax.run_directory import load_run_bundle, load_run_config
from valyrian_jax.tokenizer import Tokenizer

# How the texts are drawn that a run is judged by.
REPORT_SAMPLE = SampleConfig(prompt="", max_new_tokens=150, temperature=1.0, top_k=0, top_p=0.9, seed=0)


def evaluate_run(directory: Path) -> Evaluation:
    """Loss of a run's best weights over the held-out part of its text.

    Raises:
        UserError: the run has no bundle, or its text has changed.
    """
    config, best = _opened(directory)
    if shards.is_shard_directory(config.data.path):
        return _loss(best, _held_out_shards(directory, config, best))
    return _loss(best, hold_out(_text(directory, config, best), config, best.tokenizer, directory))


class ReportRow(NamedTuple):
    """One line of a report: the model, a trigram model, or the held-out text itself. None = does not apply."""

    nats_per_token: float | None
    bits_per_byte: float | None
    above_source: float | None  # bits per byte
    quality: TextMetrics | None


def make_report(directory: Path, texts: int) -> dict[str, ReportRow]:
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
        return {"model": ReportRow(*_loss(best, _held_out_shards(directory, config, best)), None, None)}
    text = _text(directory, config, best)
    known = load_source(config.data.path, text.sha256)
    entropy = entropy_floor(known, text.parts.held_out).bits_per_byte if known else None
    training = set(find_sentences(text.parts.train)) if known else set()
    loss = _loss(best, hold_out(text, config, best.tokenizer, directory))
    found = ReportRow(*loss, None if entropy is None else loss.bits_per_byte - entropy, None)
    lines = {
        "model": found,
        "trigram": _trigram(text, directory, best.tokenizer, entropy, training, texts if known else 0),
    }
    if known and texts:
        generate = functools.partial(stream_tokens, from_tensors(best.tensors), best.model)
        drawn = generate_many_texts(generate, best.tokenizer, REPORT_SAMPLE, texts)
        lines["model"] = found._replace(quality=measure_texts(drawn, training))
    if known:
        own = measure_texts(text.parts.held_out, training)
        lines["held-out text"] = ReportRow(None, entropy, 0.0, own)
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
    return evaluate(make_eval_step(best.model), from_tensors(best.tensors), held_out)


def _trigram(
    text: Text, directory: Path, tokenizer: Tokenizer, entropy: float | None, training: Collection[str], texts: int
) -> ReportRow:
    """A trigram model on the same tokens."""
    end = tokenizer.end_of_text
    train, held_out = (encode_documents(part, tokenizer, directory).tolist() for part in text.parts)
    trigram = WittenBell(train, 3, tokenizer.vocab_size)
    nats = trigram.nats(held_out)
    bits = nats * (len(held_out) - 1) / math.log(2) / count_bytes(text.parts.held_out)
    rows = (trigram.sample(end, end, REPORT_SAMPLE.max_new_tokens, REPORT_SAMPLE.top_p, seed) for seed in range(texts))
    found = measure_texts(map(tokenizer.decode, rows), training) if texts else None
    return ReportRow(nats, bits, None if entropy is None else bits - entropy, found)
