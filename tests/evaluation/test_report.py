"""What a run is judged by: texts counted by the checker, a trigram model, and the entropy of a generated corpus."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.support.commands import call
from tests.support.tiny import TINY
from valyrian_jax import __main__ as main
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
from valyrian_jax.data.text import read_corpus, sentence_overlap, split_documents
from valyrian_jax.errors import UserError
from valyrian_jax.evaluation.ngram import WittenBell
from valyrian_jax.evaluation.report import make_report
from valyrian_jax.evaluation.text_metrics import TextMetrics, measure_texts
from valyrian_jax.run_directory import read_metrics
from valyrian_jax.training.run import train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of a small corpus whose source is known."""
    home = tmp_path_factory.mktemp("judged")
    generated = generate_corpus(800, seed=5, exact=2)
    text = home / "text.txt"
    text.write_text(generated.text, encoding="utf-8")
    save_source(generated.source, source_path(text))
    changes = TINY | {"data.path": str(text), "train.sample_every": 60}
    settings = load_config(ROOT / "configs" / "tiny.toml", changes)
    return train(settings, home / "run", console=Console(file=io.StringIO())).directory


def test_quality_counts() -> None:
    texts = ["Valar morghūlis. Vale ēdrus.", "Valar morghūlis. Xyz riñe urnes. Taoba"]
    found = measure_texts(texts, {"Vale ēdrus."})
    assert found == TextMetrics(4, 2 / 4, 8 / 9, 3 / 4, 3 / 4)
    assert measure_texts([], set()).sentences == 0


def test_report_of_a_run(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = make_report(run, texts=20)
    model, trigram, own = lines["model"], lines["trigram"], lines["held-out text"]
    assert own.quality
    assert own.quality[1:4] == (1, 1, 1)
    assert own.bits_per_byte
    assert own.above_source == 0
    for line in (model, trigram):
        assert line.quality
        assert line.bits_per_byte
        assert line.above_source == pytest.approx(line.bits_per_byte - own.bits_per_byte)
        assert line.above_source > 0
    assert make_report(run, texts=20) == lines  # the seeds are fixed
    status, out, _ = call(main.main, capsys, monkeypatch, "eval", run, "--texts", 20, "--json")
    record = json.loads(out)
    assert status == 0
    assert record["bits_per_byte"] == pytest.approx(model.bits_per_byte)
    assert trigram.quality
    assert record["trigram"]["quality"] == trigram.quality._asdict()
    status, out, _ = call(main.main, capsys, monkeypatch, "eval", run, "--texts", 0)
    assert out.splitlines()[0] == str(run)
    assert out.splitlines()[2].split() == ["model", "trigram", "held-out", "text"]
    assert f"{model.bits_per_byte:.4f}" in out


def test_training_logs_how_grammatical_its_samples_are(run: Path) -> None:
    shares = [r["samples/grammatical"] for r in read_metrics(run) if "samples/grammatical" in r]
    assert len(shares) == 1
    assert 0 <= shares[0] <= 1


def test_training_logs_the_entropy_under_its_loss(run: Path) -> None:
    evaluated = [r for r in read_metrics(run) if "held_out/bits_per_byte" in r]
    floor = make_report(run, texts=0)["held-out text"].bits_per_byte
    assert [r["held_out/entropy_bits_per_byte"] for r in evaluated] == [floor] * 3


def test_trigram_probabilities_are_a_distribution() -> None:
    tokens = [int(t) for t in np.random.default_rng(0).integers(0, 9, 400)]
    trigram = WittenBell(tokens, 3, 10)
    for history in ([], [3], [1, 2], [9, 9], [4, 4, 4]):
        found = trigram.distribution(history)
        assert found.sum() == pytest.approx(1)
        assert found == pytest.approx([trigram.probability(token, history) for token in range(10)])
    assert WittenBell([1, 2] * 50, 3, 10).nats([1, 2] * 5) < 0.2
    assert math.exp(WittenBell([0], 1, 10).nats([0, 5])) > 10
    drawn = trigram.sample(0, 9, 30, 0.9, seed=1)
    assert drawn == trigram.sample(0, 9, 30, 0.9, seed=1)
    assert len(drawn) == 30


def test_rate_and_its_error() -> None:
    found = estimate_entropy([10.0, 20.0], [10, 10])
    assert found.bits_per_byte == 1.5
    assert found.standard_error == pytest.approx(0.5)  # the two rates are 1 and 2
    assert estimate_entropy([10.0, 20.0, 30.0], [10, 20, 30]).standard_error == 0


def test_the_shipped_corpus_has_a_floor() -> None:
    text = read_corpus(ROOT / "data" / "High Valyrian.txt")
    parts = split_documents(text, 0.05)
    described = json.loads(
        (ROOT / "data" / "High Valyrian.source.json").read_text(encoding="utf-8")
    )
    known = load_source(ROOT / "data" / "High Valyrian.txt", described["sha256"])
    assert known
    assert len(known.bits) == len(parts.train) + len(parts.held_out)
    assert 0.7 < entropy_floor(known, parts.held_out).bits_per_byte < 0.95
    assert sentence_overlap(parts) == 0


def test_a_source_that_does_not_fit_is_not_used(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    assert load_source(text, "0") is None
    save_source(CorpusSource("0", [1.0, 2.0], 0.0), source_path(text))
    assert load_source(text, "1") is None
    assert load_source(text, "0") == CorpusSource("0", [1.0, 2.0], 0.0)
    source_path(text).write_text('{"sha256": "0", "bits": "x"}', encoding="utf-8")
    with pytest.raises(UserError, match=r"text.source.json is damaged"):
        load_source(text, "0")
