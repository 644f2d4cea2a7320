"""The report of a run: its best weights, a trigram model and the held-out text, side by side."""

import itertools
import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.bundle.memory import GENERATION_BYTES, count_texts
from valyrian_jax.bundle.text_generation import NOT_FINITE, generate_many_texts
from valyrian_jax.config import Config, SampleConfig, config_from_tree, find_text
from valyrian_jax.data.dataset import Dataset, open_dataset
from valyrian_jax.data.overlap import Overlap, measure_overlap
from valyrian_jax.data.shards.dataset import TokenizerMismatchError
from valyrian_jax.data.shards.shard_set import is_shard_directory
from valyrian_jax.data.split import DataSplit
from valyrian_jax.data.split_record import check_split, read_split
from valyrian_jax.data.text import count_bytes, encode_documents
from valyrian_jax.errors import UserError
from valyrian_jax.evaluation.evaluate import Evaluation, evaluate, make_eval_step, split_batches
from valyrian_jax.evaluation.ngram import WittenBell
from valyrian_jax.evaluation.text_metrics import TextMetrics, measure_and_diagnose_texts
from valyrian_jax.generation.generate import make_generator
from valyrian_jax.model.jax_settings import pin_jax_settings
from valyrian_jax.model.parameters import from_tensors
from valyrian_jax.run_directory import load_run_bundle, load_run_config
from valyrian_jax.tokenizer import Tokenizer

REPORT_SAMPLE = SampleConfig(
    prompt="", max_new_tokens=150, temperature=1.0, top_k=0, top_p=0.9, seed=0
)


class ReportRow(NamedTuple):
    """A row of a report: the model, the trigram model or the held-out text.

    Attributes:
        nats_per_token: Held-out loss; None for the text itself.
        bits_per_byte: Held-out loss, or the entropy of the text.
        above_source: Bits per byte above that entropy; None if it is unknown.
        quality: Quality of the texts; None without texts or a grammar to check them.
    """

    nats_per_token: float | None
    bits_per_byte: float | None
    above_source: float | None
    quality: TextMetrics | None


class Report(NamedTuple):
    """The rows of a report by name, and facts about the split of a text not from the grammar.

    Attributes:
        rows: "model"; for a text "trigram" too; for a text of the grammar "held-out text" too.
        overlap: Overlap of the two parts; None if the grammar generated the text, in which no
            sentence occurs twice, or if the text does not fit into memory.
        cut: A note on the document that was cut; empty if none was.
    """

    rows: dict[str, ReportRow]
    overlap: Overlap | None = None
    cut: str = ""


def evaluate_run(directory: Path) -> Evaluation:
    """Return the loss of the best weights of a run, or of a bundle, over the held-out set.

    Raises:
        UserError: The run has no bundle, its text has changed, or its logits are not finite.
    """
    return _evaluate_bundle(*open_run(directory))


def make_report(directory: Path, texts: int) -> Report:
    """Compare a run's best weights with a trigram model and the held-out text.

    The texts are measured only if the language's grammar generated the corpus. If the corpus does
    not fit into memory, the report has only the model's loss.

    Args:
        directory: Directory of the run, or of a bundle that says what it was trained on.
        texts: Number of texts to sample from each model, and to take from the held-out text.

    Raises:
        UserError: The run has no bundle, its text has changed, or its logits are not finite.
    """
    bundle, dataset = open_run(directory)
    loss, entropy = _evaluate_bundle(bundle, dataset), dataset.entropy
    model = ReportRow(*loss, None if entropy is None else loss.bits_per_byte - entropy, None)
    documents, training = dataset.read_documents(), dataset.training_sentences
    if documents is None:
        return Report({"model": model})
    row, trigram = _evaluate_trigram(
        documents, choose_scratch(directory), bundle.tokenizer, entropy
    )
    if training is None:
        rows = {"model": model, "trigram": row}
        return Report(rows, measure_overlap(documents), documents.cut)
    held_out = ReportRow(None, entropy, None if entropy is None else 0.0, None)
    if texts:
        generate = make_generator(bundle)
        sampled = generate_many_texts(
            generate, bundle.tokenizer, REPORT_SAMPLE, texts, count_texts(bundle.model)
        )
        model = model._replace(quality=measure_and_diagnose_texts(sampled, training))
        sampled = _sample_trigram_texts(trigram, bundle.tokenizer, texts)
        row = row._replace(quality=measure_and_diagnose_texts(sampled, training))
        texts_of_corpus = itertools.islice(documents.held_out, texts)
        quality = measure_and_diagnose_texts(texts_of_corpus, training)
        held_out = held_out._replace(quality=quality)
    return Report({"model": model, "trigram": row, "held-out text": held_out}, None, documents.cut)


def open_run(directory: Path) -> tuple[Bundle, Dataset]:
    """Return a run's best weights and the text that it was trained on.

    Raises:
        UserError: The run has no bundle, or its text or the split of it has changed.
    """
    bundle = load_run_bundle(directory)
    config = _read_config(directory, bundle)
    path, tokenizer_file = config.data.path, directory / "tokenizer.json"
    try:
        dataset = open_dataset(config, bundle.tokenizer, choose_scratch(directory))
    except TokenizerMismatchError as error:
        raise UserError(
            f"the shards in {path} are not those that {directory} was trained on: expected shards "
            f"encoded with {tokenizer_file}, found shards encoded with another tokenizer; put the "
            f"old ones back, or move these away and encode the text with {tokenizer_file} again"
        ) from error
    except UserError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise UserError(
            f"cannot find {path}, the text that {directory} was trained on: expected it under this "
            "directory or one above the run; run this command where the run began, or put the "
            "text back"
        ) from error
    expected = bundle.manifest.get("corpus_sha256")
    if dataset.fingerprint != expected and is_shard_directory(path):
        raise UserError(
            f"the shards in {path} have changed since {directory} was trained on them: expected "
            "the same tokens and shards, found others; put the old ones back, or train again"
        )
    if dataset.fingerprint != expected:
        raise UserError(
            f"{config.data.path} has changed since {directory} was trained on it: expected SHA-256 "
            f"{expected}, found {dataset.fingerprint}; restore the text or train again"
        )
    saved, losses = read_split(bundle.manifest, directory)
    check_split(dataset.record_split(), saved, losses, path, directory)
    return bundle, dataset


def _read_config(directory: Path, bundle: Bundle) -> Config:
    """Return the configuration of a run, or the one that a bundle stores."""
    if _is_run(directory):
        return load_run_config(directory)
    if "config" not in bundle.manifest:
        raise UserError(
            f"{directory} does not say which text it was trained on: expected a run or the bundle "
            "of one, found a model from elsewhere; pass --text FILE"
        )
    config = config_from_tree(bundle.manifest["config"], source=str(directory / "manifest.json"))
    return replace(config, data=find_text(config.data, *directory.absolute().parents))


def choose_scratch(directory: Path) -> Path:
    """Return the directory for the tokens of a large text: the run, but never a bundle."""
    return directory if _is_run(directory) else Path(tempfile.gettempdir())


def _is_run(directory: Path) -> bool:
    return (directory / "config.toml").exists()


@pin_jax_settings()  # The weights belong on the default device, not on the caller's mesh.
def _evaluate_bundle(bundle: Bundle, dataset: Dataset) -> Evaluation:
    windows = split_batches(dataset.eval_set.windows, bundle.model, GENERATION_BYTES)
    eval_set = dataset.eval_set._replace(windows=windows)
    evaluation = evaluate(make_eval_step(bundle.model), from_tensors(bundle.tensors), eval_set)
    if not math.isfinite(evaluation.nats_per_token):
        raise UserError(NOT_FINITE)
    return evaluation


def _evaluate_trigram(
    documents: DataSplit, scratch: Path, tokenizer: Tokenizer, entropy: float | None
) -> tuple[ReportRow, WittenBell]:
    """Train a trigram model of the same tokens and return its loss and the model."""
    train, held_out = (
        encode_documents(part, tokenizer, scratch) for part in (documents.train, documents.held_out)
    )
    trigram = WittenBell(train, 3, tokenizer.vocab_size)
    nats = trigram.cross_entropy(held_out)
    bits = nats * (len(held_out) - 1) / math.log(2) / count_bytes(documents.held_out)
    return ReportRow(nats, bits, None if entropy is None else bits - entropy, None), trigram


def _sample_trigram_texts(trigram: WittenBell, tokenizer: Tokenizer, count: int) -> Iterator[str]:
    end, length, top_p = tokenizer.end_of_text, REPORT_SAMPLE.max_new_tokens, REPORT_SAMPLE.top_p
    for seed in range(count):
        yield tokenizer.decode(trigram.sample(end, end, length, top_p, seed))
