"""Configurations read back as they were written; every mistake is named in one line."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from valyrian_jax.config import (
    Config,
    MeshConfig,
    config_from_tree,
    config_to_toml,
    explain_error,
    list_settings,
    load_config,
)
from valyrian_jax.errors import UserError
from valyrian_jax.run_directory import load_run_config, save_config

ROOT = Path(__file__).parent.parent


def test_a_configuration_reads_back_as_it_was_written() -> None:
    overrides = {
        "data.path": 'a "quoted"\\ ñ\npath',
        "optim.lr": 1e-7,
        "wandb.project": "\x7f\x01",
        "model.tie_word_embeddings": True,
        "train.seed": 2**32 - 1,
        "sample.stop": ("\n", 'a "b"\\', "ñ"),
    }
    config = load_config(overrides=overrides)
    assert config_from_tree(tomllib.loads(config_to_toml(config))) == config


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.toml")), ids=lambda p: p.name)
def test_shipped_configurations_load(file: Path) -> None:
    assert load_config(file).train.steps > 0


def test_the_default_configuration_is_valyrian_toml() -> None:
    assert load_config(ROOT / "configs" / "valyrian.toml") == Config()


def test_the_default_model_has_the_documented_shape() -> None:
    model, original = Config().model, load_config(ROOT / "configs" / "original.toml").model
    assert (model.n_embd, model.n_head, model.n_layer) == (96, 4, 4)
    assert (model.n_positions, model.vocab_size, model.dropout) == (64, 500, 0)
    assert not model.tie_word_embeddings
    assert dataclasses.replace(original, n_embd=96, dropout=0.0, init_std=model.init_std) == model
    assert (original.n_embd, original.dropout) == (128, 0.2)


@pytest.mark.parametrize("name", ["quick", "quick.toml", "configs/quick.toml", "gpt2-1.5b"])
def test_presets_are_found_by_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick").mkdir()  # A run, perhaps.
    assert load_config(name).train.steps == (19073 if name.startswith("gpt2") else 500)


def test_a_file_comes_before_a_preset_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quick").write_text("[train]\nsteps = 7\n")
    assert load_config("quick").train.steps == 7
    Path("configs").mkdir()
    Path("configs", "mine.toml").write_text("[train]\nsteps = 9\n")
    assert load_config("mine").train.steps == 9


@pytest.mark.parametrize(
    ("name", "advice"), [("quik", "did you mean quick?"), ("xyz", "name one of them")]
)
def test_an_unknown_preset_is_answered_with_the_known_ones(
    name: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refusal:
        load_config(name)
    message = str(refusal.value)
    assert message.startswith(f"no configuration '{name}': expected a TOML file or a preset (")
    assert " quick, tiny, valyrian); " in message
    assert message.endswith(advice)


@pytest.mark.parametrize("name", ["tiny", "quick", "muon", "long", "valyrian"])
def test_presets_evaluate_often_enough_for_a_curve(name: str) -> None:
    train = load_config(name).train
    assert train.steps // train.eval_every >= 3


def test_overrides_replace_values_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[optim]\nlr = 1e-2\nbeta2 = 0.5\n")
    config = load_config(tmp_path / "c.toml", {"optim.lr": 5e-3})
    assert (config.optim.lr, config.optim.beta2) == (5e-3, 0.5)


WRONG_VALUES: list[tuple[dict[str, Any], str]] = [
    ({"optim.lrr": 1}, "unknown key optim.lrr = 1; did you mean optim.lr?"),
    ({"model.heads": 4}, "unknown key model.heads = 4; did you mean model.n_head?"),
    ({"optm.lr": 1}, "unknown key optm = {'lr': 1}; did you mean optim?"),
    ({"modle.n_layer": 1}, "unknown key modle = {'n_layer': 1}; did you mean model?"),
    ({"zzz.qqq": 1}, "unknown key zzz = {'qqq': 1}; see `python -m valyrian_jax train --help`"),
    ({"optim.lr": "fast"}, "optim.lr = 'fast': input should be a valid number"),
    ({"train.steps": 2.5}, "train.steps = 2.5: input should be a valid integer"),
    ({"train.steps": True}, "train.steps = true: input should be a valid integer"),
    ({"train.steps": 0}, "train.steps = 0: input should be greater than or equal to 1"),
    ({"data.held_out": 1.0}, "data.held_out = 1.0: input should be less than 1"),
    (
        {"model.activation": "relu"},
        "model.activation = 'relu': input should be 'gelu' or 'gelu_new'",
    ),
    ({"model.n_head": 5}, "model.n_head = 5 must divide model.n_embd = 96"),
    (
        {"train.eval_every": 15},
        "train.eval_every = 15 must be a multiple of train.steps_per_dispatch = 10",
    ),
    ({"optim.clip_norm": float("inf")}, "optim.clip_norm = inf: input should be a finite number"),
    ({"model.n_layer": 10**400}, "model.n_layer"),
    ({"sample.temperature": 1e-5}, "sample.temperature = 1e-05: must be 0 or at least 0.001"),
    ({"sample.min_p": 1.01}, "sample.min_p = 1.01: input should be less than or equal to 1"),
    ({"sample.repetition_penalty": 0.0}, "sample.repetition_penalty = 0.0: input should be"),
    ({"sample.stop": [".", ""]}, "sample.stop = ['.', '']: expected strings of at least one"),
    ({"sample.stop": ["a", 1]}, "sample.stop.1 = 1: input should be a valid string"),
    ({"sample.top_p": 0.0}, "sample.top_p = 0.0: input should be greater than 0"),
]


@pytest.mark.parametrize(("overrides", "message"), WRONG_VALUES)
def test_a_wrong_value_is_named_in_one_line(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error_info:
        config_from_tree({}, overrides)
    assert message in str(error_info.value)
    assert "\n" not in str(error_info.value)


def test_one_stop_string_needs_no_list() -> None:
    assert config_from_tree({"sample": {"stop": "."}}).sample.stop == (".",)


def test_a_key_outside_a_section_is_refused_with_its_full_name() -> None:
    message = r"lr = 0.1 is outside a section; did you mean optim.lr\?"
    with pytest.raises(UserError, match=message):
        config_from_tree({"lr": 0.1})


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"sample": {"seed": 7, "a\ud800": 1}}, r"'sample.a\ud800 = 1' is not valid Unicode"),
        ({"sample": {"prompt": "a\ud800b"}}, r"'sample.prompt = a\ud800b' is not valid Unicode"),
        ({"sample": {"stop": [".", "\udfff"]}}, r"'sample.stop = \udfff' is not valid Unicode"),
        ({"sample": {"prompt": [["\udfff"]]}}, "expected text, numbers, true or false as values"),
        ({"sample\ud800": {}}, "expected text, numbers, true or false as values"),
    ],
)
def test_a_lone_surrogate_is_named_without_other_settings(
    tree: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as error_info:
        config_from_tree(tree)
    assert message in str(error_info.value)
    assert "seed" not in str(error_info.value)


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the configuration .*none.toml: No such file"):
        load_config(tmp_path / "none.toml")
    for content in (b"[optim\nlr=1", b"\xff\xfe", b"a = " + b"[" * 20_000):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(UserError, match="bad.toml is not (TOML|UTF-8)"):
            load_config(tmp_path / "bad.toml")


def test_every_key_is_described() -> None:
    for setting in list_settings():
        assert setting.description.endswith("."), setting.name
        is_plain = setting.type in (int, float, str, bool, tuple[str, ...])
        assert is_plain or "Literal" in str(setting.type)


def test_configurations_are_hashable_and_frozen() -> None:
    assert hash(Config()) == hash(Config())
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().model.n_head = 2


def write_config(directory: Path, path: str, tokenizer: str = "") -> Path:
    directory.mkdir(exist_ok=True)
    file = directory / "mine.toml"
    file.write_text(f'[data]\npath = "{path}"\ntokenizer = "{tokenizer}"\n', encoding="utf-8")
    return file


def test_a_relative_path_is_found_here_then_beside_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_config(tmp_path / "project", "text.txt", "t.json")
    assert load_config(file).data.path == "text.txt"  # It is nowhere, so it stays as written.
    for name in ("text.txt", "t.json"):
        (tmp_path / "project" / name).touch()
    data = load_config(file).data
    assert (data.path, data.tokenizer) == (str(file.parent / "text.txt"), f"{file.parent}/t.json")
    (tmp_path / "text.txt").touch()
    assert load_config(file).data.path == "text.txt"
    assert load_config("project/mine.toml").data.tokenizer == "project/t.json"
    (tmp_path / "project" / "shards").mkdir()
    assert load_config(file, {"data.path": "shards"}).data.path == str(file.parent / "shards")
    assert load_config(file, {"data.path": str(tmp_path / "no")}).data.path == str(tmp_path / "no")


def test_presets_and_corpus_are_found_from_anywhere_but_nothing_else_of_a_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    corpus = str(ROOT / "data" / "High Valyrian.txt")
    assert load_config().data.path == corpus
    assert load_config("configs/tiny.toml").data.path == corpus
    assert load_config(write_config(tmp_path, "README.md")).data.path == "README.md"
    assert load_config(overrides={"data.path": "data/README.md"}).data.path == "data/README.md"
    write_config(tmp_path / "configs", "here.txt").rename(tmp_path / "configs" / "tiny.toml")
    assert load_config("configs/tiny.toml").data.path == "here.txt"


def test_the_configuration_of_a_run_stays_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = config_from_tree({"data": {"path": "a.txt", "tokenizer": "tokenizer.json"}})
    save_config(tmp_path, config)
    (tmp_path / "tokenizer.json").touch()  # Every run has one: a resume compares the settings.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_run_config(tmp_path) == config


def test_an_unknown_key_outside_of_a_configuration_suggests_no_setting() -> None:
    with pytest.raises(ValidationError) as error:
        TypeAdapter(MeshConfig).validate_json('{"dta": 1}')
    assert explain_error(error.value) == "unknown key dta = 1"
    assert explain_error(error.value, {}) == "unknown key dta = 1; did you mean data?"
