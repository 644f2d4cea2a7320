"""The callback that measures the rules of the grammar during a run."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.support.runs import load_tiny_config, make_text_console, read_console
from valyrian_jax.config import Config
from valyrian_jax.data.corpus_entropy import generate_corpus, save_source, source_path
from valyrian_jax.data.dataset import open_dataset
from valyrian_jax.evaluation.pairs import fits_context, score_texts
from valyrian_jax.language.pairs.rules import RULES
from valyrian_jax.model import sharding
from valyrian_jax.training.optimizer import make_optimizer
from valyrian_jax.training.progress import Progress
from valyrian_jax.training.rule_accuracy import MeasurePairs
from valyrian_jax.training.step_report import StepReport
from valyrian_jax.training.train_step import init_state


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    corpus = generate_corpus(400, seed=7, exact=0)
    text = tmp_path_factory.mktemp("corpus") / "text.txt"
    text.write_text(corpus.text, encoding="utf-8")
    save_source(corpus.source, source_path(text))
    return load_tiny_config(text, **{"train.pairs": 1})


def test_every_evaluation_has_the_share_of_right_pairs_of_each_rule(
    config: Config, tmp_path: Path
) -> None:
    dataset, console = open_dataset(config, None, tmp_path), make_text_console()
    mesh = sharding.single_device_mesh()
    callback = MeasurePairs(config, dataset, mesh, console, lambda _: nullcontext())
    state = init_state(config, make_optimizer(config.optim, config.train.steps))
    report = StepReport(config.train.eval_every, state, Progress(), {"train/loss": 1.0})

    values = callback(report).values
    assert values.pop("train/loss") == 1
    mean = values.pop("pairs/mean")
    assert mean == pytest.approx(sum(values.values()) / len(values))
    for pair in callback.pairs:  # one for each rule
        right, wrong = score_texts(state.params, config.model, dataset.tokenizer, pair.texts)
        assert values.pop(f"pairs/{pair.rule}") == (right > wrong)
        assert pair.right not in (dataset.training_sentences or ())
        assert fits_context(pair, dataset.tokenizer, config.model.n_positions)
    assert not values
    assert {pair.rule for pair in callback.pairs} <= {*RULES}
    assert f"minimal pairs: {mean:.1%} right" in read_console(console)
    assert callback(report._replace(step=1)).values == report.values
