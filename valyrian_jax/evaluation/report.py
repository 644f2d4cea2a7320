"""How good a run is: its best weights beside an n-gram model and the held-out text itself."""

import functools
import math
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.text_generation import generate_many_texts
from valyrian_jax.config import SampleConfig
from valyrian_jax.data.dataset import Dataset, open_dataset
from valyrian_jax.data.text import DataSplit, count_bytes, encode_documents
from valyrian_jax.errors import UserError
from valyrian_jax.evaluation.evaluate import Evaluation, evaluate, make_eval_step
from valyrian_jax.evaluation.ngram import WittenBell
from valyrian_jax.evaluation.text_metrics import TextMetrics, measure_texts
from valyrian_jax.generation.generate import stream_tokens
from valyrian_jax.model.parameters import from_tensors
from valyrian_jax.run_directory import load_run_bundle, load_run_config
from valyrian_jax.tokenizer import Tokenizer

# How the texts are drawn that are judged.
REPORT_SAMPLE = SampleConfig(
    prompt="", max_new_tokens=150, temperature=1.0, top_k=0, top_p=0.9, seed=0
)


class ReportRow(NamedTuple):
    """One row of a report: the model, an n-gram model, or the held-out text itself. None: does not apply."""

    nats_per_token: float | None
    bits_per_byte: float | None
    above_source: float | None  # bits per byte
    quality: TextMetrics | None


def evaluate_run(directory: Path) -> Evaluation:
    """Return the loss of a run's best weights over the held-out part of its text.

    Raises:
        UserError: The run has no bundle, or its text has changed.
    """
    return _evaluate_bundle(*_open_run(directory))


def make_report(directory: Path, texts: int) -> dict[str, ReportRow]:
    """Compare a run's best weights with a trigram model and the held-out text.

    Args:
        directory: Directory of the run.
        texts: Number of texts to draw from each model. Texts are judged only where the language's grammar wrote the
            corpus. Of a text that does not fit into memory only the model's loss is reported.

    Raises:
        UserError: The run has no bundle, or its text has changed.
    """
    best, dataset = _open_run(directory)
    loss, entropy = _evaluate_bundle(best, dataset), dataset.entropy
    model = ReportRow(*loss, None if entropy is None else loss.bits_per_byte - entropy, None)
    if dataset.documents is None:
        return {"model": model}
    training = dataset.training_sentences
    trigram = _trigram(dataset.documents, directory, best.tokenizer, entropy)
    if training is None:
        return {"model": model, "trigram": trigram[0]}
    if texts:
        generate = functools.partial(stream_tokens, from_tensors(best.tensors), best.model)
        drawn = generate_many_texts(generate, best.tokenizer, REPORT_SAMPLE, texts)
        model = model._replace(quality=measure_texts(drawn, training))
    held_out = ReportRow(None, entropy, 0.0, measure_texts(dataset.documents.held_out, training))
    return {
        "model": model,
        "trigram": _judge_trigram(*trigram, best.tokenizer, training, texts),
        "held-out text": held_out,
    }


def _open_run(directory: Path) -> tuple[Bundle, Dataset]:
    """Return a run's best weights and the text it was trained on."""
    config, best = load_run_config(directory), load_run_bundle(directory)
    dataset = open_dataset(config, best.tokenizer, directory)
    if dataset.fingerprint != best.manifest.get("corpus_sha256"):
        raise UserError(
            f"the corpus {config.data.path} has changed since {directory} was trained on it"
        )
    return best, dataset


def _evaluate_bundle(best: Bundle, dataset: Dataset) -> Evaluation:
    return evaluate(make_eval_step(best.model), from_tensors(best.tensors), dataset.eval_set)


def _trigram(
    documents: DataSplit, scratch: Path, tokenizer: Tokenizer, entropy: float | None
) -> tuple[ReportRow, WittenBell]:
    """Return the loss of a trigram model of the same tokens, and the model."""
    train, held_out = (encode_documents(part, tokenizer, scratch).tolist() for part in documents)
    trigram = WittenBell(train, 3, tokenizer.vocab_size)
    nats = trigram.nats(held_out)
    bits = nats * (len(held_out) - 1) / math.log(2) / count_bytes(documents.held_out)
    return ReportRow(nats, bits, None if entropy is None else bits - entropy, None), trigram


def _judge_trigram(
    row: ReportRow, trigram: WittenBell, tokenizer: Tokenizer, training: Collection[str], texts: int
) -> ReportRow:
    """Return a trigram model's row with the quality of its texts."""
    if not texts:
        return row
    end, sample = tokenizer.end_of_text, REPORT_SAMPLE
    rows = (
        trigram.sample(end, end, sample.max_new_tokens, sample.top_p, seed) for seed in range(texts)
    )
    return row._replace(quality=measure_texts(map(tokenizer.decode, rows), training))
