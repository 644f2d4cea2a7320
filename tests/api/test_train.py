"""`valyrian_jax.train` trains from a script, and its result can be used at once."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import valyrian_jax as vx
from tests.support.runs import load_tiny_config, read_values
from tests.support.tiny import TINY
from valyrian_jax.run_directory import load_run_config

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def settings(small_text: Path) -> dict[str, Any]:
    return TINY | {"data.path": str(small_text)}


@pytest.fixture(scope="module")
def trained(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> vx.TrainedRun:
    out = tmp_path_factory.mktemp("runs") / "mine"
    return vx.train(ROOT / "configs" / "tiny.toml", out, **settings)


def test_the_result_is_that_of_the_run(trained: vx.TrainedRun) -> None:
    losses = {
        record["step"]: (record["held_out/nats_per_token"], record["held_out/bits_per_byte"])
        for record in read_values(trained.directory)
        if "held_out/nats_per_token" in record
    }
    assert trained.steps == 60
    assert losses[trained.best_step] == (trained.held_out_loss, trained.bits_per_byte)
    assert trained.held_out_loss == min(loss for loss, _ in losses.values())
    model = trained.load()
    assert model.directory == trained.directory / "bundle"
    assert model.generate("the", seed=1) == vx.load(trained.directory).generate("the", seed=1)


def test_a_configuration_takes_settings_too(small_text: Path, tmp_path: Path) -> None:
    config = load_tiny_config(small_text)
    result = vx.train(config, str(tmp_path / "run"), optim={"lr": 1e-3}, **{"train.steps": 20})
    assert result.steps == 20
    stored = load_run_config(result.directory)
    assert (stored.optim.lr, stored.model, stored.data) == (1e-3, config.model, config.data)


@pytest.mark.slow
def test_a_run_continues_and_starts_from_another(
    trained: vx.TrainedRun, small_text: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    short = settings | {"data.path": small_text, "train.steps": 20}
    first = vx.train("configs/tiny.toml", tmp_path / "run", **short)
    resumed = vx.train(resume=first.directory, **{"train.steps": 40})
    assert (resumed.directory, resumed.steps) == (first.directory, 40)
    settings = {n: v for n, v in short.items() if not n.startswith("model.")}
    tuned = vx.train(
        "configs/tiny.toml", tmp_path / "tuned", init=trained.directory / "bundle", **settings
    )
    assert tuned.load().config == trained.load().config


def test_a_run_trains_in_a_thread(settings: dict[str, Any], tmp_path: Path) -> None:
    results: list[vx.TrainedRun] = []
    short = settings | {"train.steps": 20}
    thread = threading.Thread(
        target=lambda: results.append(vx.train("configs/tiny.toml", tmp_path / "run", **short))
    )
    thread.start()
    thread.join()
    assert [result.steps for result in results] == [20]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optim.lrr": 1}, "unknown key optim.lrr = 1; did you mean optim.lr?"),
        ({"lr": 1e-3}, "unknown key lr = 0.001; did you mean optim.lr?"),
        ({"optim": {"lrr": 1}}, "unknown key optim.lrr = 1; did you mean optim.lr?"),
        ({"optim.lr": "fast"}, "optim.lr = 'fast': input should be a valid number"),
        ({"config": "none.toml"}, "cannot read the configuration none.toml"),
        ({"resume": "nowhere"}, "nowhere is not a run directory"),
        ({"resume": "nowhere", "out": "new"}, "leave out config, out and init"),
        ({"optimm": {"lr": 1}}, "unknown key optimm = {'lr': 1}; did you mean optim?"),
        ({"config": "tiny", "optimm": {"lr": 1}}, "unknown key optimm = {'lr': 1}; did you mean"),
        ({"config": "tiny", "optim": None}, "unknown key optim = null; optim is a section: name"),
        ({"config": "tiny", "sample.stop": [".", 1]}, "sample.stop.1 = 1: input should be a"),
        ({"config": "tiny", "optim.lr": {1}}, "optim.lr: expected text, numbers, true or false"),
        ({"config": "tiny", "optim": {"lr": 1j}}, "optim.lr: expected text, numbers, true or"),
        ({"config": ""}, "cannot read the configuration .: Is a directory"),
        ({"config": 5}, "config = 5: input should be a valid string; pass a path"),
        ({"config": {"optim.lr": 1}}, 'found a dict; pass settings as **{"optim.lr": 1e-3}'),
        ({"out": 5}, "out = 5: input should be a valid string; pass a path"),
        ({"init": b"x"}, "init = b'x': input should be a valid string; pass a path"),
        ({"resume": 1.5}, "resume = 1.5: input should be a valid string; pass a path"),
        ({"init": "nowhere", "model.n_layer": 3}, "model.n_layer cannot be combined with init"),
        ({"init": "nowhere", "data.tokenizer": "x"}, "data.tokenizer cannot be combined with"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(vx.UserError) as caught:
        vx.train(**arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "tiny.toml" not in str(caught.value)


def test_numbers_of_numpy_are_settings() -> None:
    settings = {"train.steps": np.int64(20), "optim": {"lr": np.float32(0.5)}}
    with pytest.raises(vx.UserError, match="nowhere is not a run directory"):  # the last check
        vx.train("tiny", init="nowhere", **settings)
