"""The report of a run: text metrics, a trigram model and the entropy of a generated corpus."""

import functools
import io
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.support.commands import call
from tests.support.tiny import TINY
from valyrian_jax.bundle.bundle import load_bundle, save_bundle
from valyrian_jax.bundle.text_generation import NOT_FINITE
from valyrian_jax.cli.main import main
from valyrian_jax.config import load_config
from valyrian_jax.data.corpus_entropy import (
    CorpusSource,
    entropy_floor,
    estimate_entropy,
    generate_corpus,
    load_source,
    save_source,
    source_path,
)
from valyrian_jax.data.overlap import measure_overlap
from valyrian_jax.data.reading.text_loader import load_text
from valyrian_jax.data.split import split_documents
from valyrian_jax.errors import UserError
from valyrian_jax.evaluation.ngram import WittenBell
from valyrian_jax.evaluation.report import evaluate_run, make_report, open_run
from valyrian_jax.evaluation.text_metrics import (
    TextMetrics,
    measure_and_diagnose_texts,
    measure_texts,
)
from valyrian_jax.run_directory import load_run_config, read_metrics
from valyrian_jax.training.run import train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a small model on a small generated corpus."""
    directory = tmp_path_factory.mktemp("report")
    generated = generate_corpus(800, seed=5, exact=2)
    text = directory / "text.txt"
    text.write_text(generated.text, encoding="utf-8")
    save_source(generated.source, source_path(text))
    overrides = TINY | {"data.path": str(text), "train.sample_every": 60}
    config = load_config(ROOT / "configs" / "tiny.toml", overrides)
    return train(config, directory / "run", console=Console(file=io.StringIO())).directory


def test_a_loss_that_is_not_finite_is_an_error(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    bundle = load_bundle(copy / "bundle")
    tensors = {name: tensor * np.float32(1e30) for name, tensor in bundle.tensors.items()}
    save_bundle(replace(bundle, tensors=tensors), copy / "bundle")
    for evaluate in (evaluate_run, functools.partial(make_report, texts=0)):
        with pytest.raises(UserError) as error:
            evaluate(copy)
        assert str(error.value) == NOT_FINITE


def test_a_run_whose_text_is_elsewhere_says_where_to_look(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    config = (moved / "config.toml").read_text(encoding="utf-8")
    text = str(run.parent / "text.txt")
    assert text in config
    (moved / "config.toml").write_text(config.replace(text, "elsewhere.txt"), encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot find elsewhere\.txt, .* run this command where"):
        open_run(moved)


def test_a_run_finds_its_text_from_any_directory(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    shutil.copytree(run.parent, project)
    config = project / "run" / "config.toml"
    text = json.dumps(str(run.parent / "text.txt"))
    config.write_text(config.read_text().replace(text, '"text.txt"'))
    monkeypatch.chdir(tmp_path)
    assert open_run(Path("project", "run"))[1].fingerprint == open_run(run)[1].fingerprint
    assert load_run_config(Path("project", "run")).data.path == str(project / "text.txt")


def test_text_metrics_count_finished_sentences() -> None:
    texts = ["Valar morghūlis. Vale ēdrus.", "Valar morghūlis. Xyz riñe urnes. Taoba"]
    metrics = measure_texts(texts, {"Vale ēdrus."})
    assert metrics == TextMetrics(4, 2 / 4, 8 / 9, 3 / 4, 3 / 4)
    assert measure_and_diagnose_texts(texts, {"Vale ēdrus."}) == metrics._replace(
        mistakes=1 / 4, beyond=1 / 4
    )
    assert measure_texts(["Valar morghulis."], set()).grammatical == 0  # misspelt
    assert measure_texts([], set()).sentences == 0


def test_report_compares_model_trigram_and_held_out_text(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = make_report(run, texts=20)
    rows = report.rows
    model, trigram, held_out = rows["model"], rows["trigram"], rows["held-out text"]
    assert held_out.quality
    assert held_out.quality[1:4] == (1, 1, 1)
    assert held_out.bits_per_byte
    assert held_out.above_source == 0
    for row in (model, trigram):
        assert row.quality
        assert row.bits_per_byte
        assert row.above_source == pytest.approx(row.bits_per_byte - held_out.bits_per_byte)
        assert row.above_source > 0
    assert make_report(run, texts=20) == report  # the seeds are fixed
    status, out, _ = call(main, capsys, monkeypatch, "eval", run, "--texts", 20, "--json")
    record = json.loads(out)
    assert status == 0
    assert record["bits_per_byte"] == pytest.approx(model.bits_per_byte)
    assert trigram.quality
    assert record["trigram"]["quality"] == trigram.quality._asdict()
    status, out, _ = call(main, capsys, monkeypatch, "eval", run, "--texts", 0)
    assert out.splitlines()[0] == str(run)
    assert out.splitlines()[2].split() == ["model", "trigram", "held-out", "text"]
    assert f"{model.bits_per_byte:.4f}" in out


def test_training_logs_the_share_of_grammatical_samples(run: Path) -> None:
    shares = [r["samples/grammatical"] for r in read_metrics(run) if "samples/grammatical" in r]
    assert len(shares) == 1
    assert 0 <= shares[0] <= 1


def test_training_logs_the_entropy_with_its_loss(run: Path) -> None:
    evaluated = [r for r in read_metrics(run) if "held_out/bits_per_byte" in r]
    floor = make_report(run, texts=0).rows["held-out text"].bits_per_byte
    assert [r["held_out/entropy_bits_per_byte"] for r in evaluated] == [floor] * 3


def test_trigram_probabilities_are_a_distribution() -> None:
    tokens = [int(t) for t in np.random.default_rng(0).integers(0, 9, 400)]
    trigram = WittenBell(tokens, 3, 10)
    for history in ([], [3], [1, 2], [9, 9], [4, 4, 4]):
        distribution = trigram.distribution(history)
        assert distribution.sum() == pytest.approx(1)
        single = [trigram.probability(token, history) for token in range(10)]
        assert distribution == pytest.approx(single)


def test_trigram_probabilities_are_those_of_the_formula() -> None:
    tokens = [int(t) for t in np.random.default_rng(0).integers(0, 9, 60)]
    trigram, text = WittenBell(tokens, 3, 10), [*range(10), *tokens[:20]]
    logs = []
    for i, token in enumerate(text):
        expected = 1 / 10
        for n in range(min(3, i + 1)):
            places = [j for j in range(n, 60) if tokens[j - n : j] == text[i - n : i]]
            next_tokens = [tokens[j] for j in places]
            types = len({*next_tokens})
            if types:
                count = next_tokens.count(token)
                expected = (count + types * expected) / (len(places) + types)
        assert trigram.probability(token, text[:i]) == pytest.approx(expected)
        logs.append(math.log(expected))
    assert trigram.cross_entropy(text) == pytest.approx(-sum(logs[1:]) / (len(text) - 1))


def test_trigram_loss_is_low_for_known_tokens_and_high_for_unknown_ones() -> None:
    assert WittenBell([1, 2] * 50, 3, 10).cross_entropy([1, 2] * 5) < 0.2
    assert math.exp(WittenBell([0], 1, 10).cross_entropy([0, 5])) > 10


def test_trigram_samples_depend_on_the_seed_only() -> None:
    tokens = [int(t) for t in np.random.default_rng(0).integers(0, 9, 400)]
    trigram = WittenBell(tokens, 3, 10)
    sampled = trigram.sample(0, 9, 30, 0.9, seed=1)
    assert sampled == trigram.sample(0, 9, 30, 0.9, seed=1)
    assert len(sampled) == 30


def test_entropy_estimate_has_a_standard_error() -> None:
    estimate = estimate_entropy([10.0, 20.0], [10, 10])
    assert estimate.bits_per_byte == 1.5
    assert estimate.standard_error == pytest.approx(0.5)  # the two rates are 1 and 2
    assert estimate_entropy([10.0, 20.0, 30.0], [10, 20, 30]).standard_error == 0


def test_the_shipped_corpus_has_a_known_entropy() -> None:
    text = load_text(ROOT / "data" / "High Valyrian.txt")
    split = split_documents(text.documents, 0.05)
    file = ROOT / "data" / "High Valyrian.source.json"
    sha256 = json.loads(file.read_text(encoding="utf-8"))["sha256"]
    source = load_source(ROOT / "data" / "High Valyrian.txt", sha256)
    assert source
    assert len(source.bits) == len(split.train) + len(split.held_out)
    floor = entropy_floor(source, split.held_out)
    assert 0.7 < floor.bits_per_byte < 0.8
    assert floor.standard_error < 0.0025
    assert measure_overlap(split) == (0, "sentences")


def test_a_source_of_another_text_is_not_used(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    assert load_source(text, "0") is None
    save_source(CorpusSource("0", [1.0, 2.0], 0.0), source_path(text))
    assert load_source(text, "1") is None
    assert load_source(text, "0") == CorpusSource("0", [1.0, 2.0], 0.0)
    source_path(text).write_text('{"sha256": "0", "bits": "x"}', encoding="utf-8")
    with pytest.raises(UserError, match=r"text.source.json is damaged"):
        load_source(text, "0")
