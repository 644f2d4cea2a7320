"""The model card of a bundle is valid for model hubs, whatever the manifest knows."""

import contextlib
import io
import math
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from tests.support.targets import MODEL, make_bundle_files
from valyrian_jax.bundle.bundle import load_bundle
from valyrian_jax.bundle.model_card import base_model_name, make_card

RUN: dict[str, Any] = {
    "config": {"data": {"path": "data/High Valyrian.txt"}},
    "step": 4800,
    "held_out": {"nats_per_token": 1.5, "bits_per_byte": 0.905167},
    "overlap": {"share": 0.125, "unit": "sentences"},
}
VALYRIAN = RUN | {"held_out": RUN["held_out"] | {"entropy_bits_per_byte": 0.79912}}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A bundle."""
    for name, content in make_bundle_files().items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def read_card(manifest: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the metadata and the text of a card, as the Hugging Face hub parses them."""
    card = ModelCard(make_card(MODEL, manifest))
    return card.data.to_dict(), card.text


def test_the_card_of_a_run_on_the_shipped_corpus() -> None:
    data, text = read_card(VALYRIAN)
    assert (data["language"], data["license"]) == ("art", "mit")
    assert (data["library_name"], data["pipeline_tag"]) == ("transformers", "text-generation")
    assert data["tags"] == ["gpt2", "valyrian-gpt", "high-valyrian"]
    (result,) = data["model-index"][0]["results"]
    assert result["dataset"] == {"name": "High Valyrian", "type": "text"}
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values == {"bits_per_byte": 0.905167, "nats_per_token": 1.5}
    assert "Trained on `High Valyrian` for 4,800 steps" in text
    assert "0.9052 bits per byte" in text
    assert "no model can expect to beat, is 0.7991" in text
    assert "12.5% of the held-out sentences are also in the training part." in text


def test_the_card_claims_nothing_about_another_text() -> None:
    data, text = read_card(RUN)
    assert "language" not in data
    assert data["license"] == "unknown"
    assert "Valyrian." not in text.replace("`High Valyrian`", "")
    assert "entropy" not in text


def test_the_card_of_a_valyrian_text_of_other_people_does_not_license_it() -> None:
    data, text = read_card(RUN | {"language": "High Valyrian"})
    assert (data["language"], data["license"]) == ("art", "unknown")
    assert "entropy" not in text


def test_the_card_of_a_fine_tuned_model_names_its_base_model() -> None:
    data, text = read_card(VALYRIAN | {"base_model": "openai-community/gpt2"})
    assert data["base_model"] == "openai-community/gpt2"
    assert data["license"] == "unknown"  # that of the base model, which is not known
    assert "from the weights of `openai-community/gpt2`, on `High Valyrian`" in text
    data, text = read_card(VALYRIAN | {"base_model": "my gpt (2)"})
    assert "base_model" not in data  # no name that a hub could have
    assert "from the weights of `my gpt (2)`," in text


def test_the_card_of_an_import_names_its_source_in_the_text_only() -> None:
    data, text = read_card({"imported_from": "ckpt"})  # the name of a file, not of a hub
    assert "base_model" not in data
    assert data["license"] == "unknown"
    assert "Imported from `ckpt`." in text


def test_the_name_of_a_base_model() -> None:
    assert base_model_name({"imported_from": "gpt2"}, Path("/a/b")) == "gpt2"
    assert base_model_name({}, Path("/a/gpt2-bundle")) == "gpt2-bundle"
    assert base_model_name({}, Path("/runs/first/bundle")) == "first"
    assert base_model_name({"imported_from": "\ud800a\n"}, Path("/a")) == "a"
    assert base_model_name({"imported_from": 3}, Path("/\udcffb")) == "b"


def test_the_card_says_how_the_weights_were_made() -> None:
    config = {
        "data": {"path": "/home/me/my novel.txt", "held_out": 0.05},
        "train": {"steps": 20, "deterministic": True},
        "sample": {"stop": ["a", "b c"]},
        "wandb": {"mode": "off"},
    }
    versions = {"device": "cpu", "processor": "A CPU", "jax": "0.10.2", "XLA_FLAGS": "--x"}
    manifest = RUN | {"config": config, "versions": versions}
    text = " ".join(read_card(manifest)[1].split())
    command = "python -m valyrian_jax train --data.path 'my novel.txt' --train.steps 20"
    assert f"Made on cpu (A CPU) by `{command} --train.deterministic true" in text
    assert "wandb" not in text
    assert "Versions: jax 0.10.2. The weights are float32." in text
    text = read_card(manifest | {"base_model": "gpt2"})[1]
    assert "Made on cpu (A CPU).\n" in text.replace(" Versions", "\n Versions")
    assert "Made" not in read_card(manifest | {"imported_from": "gpt2"})[1]


MANIFESTS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "an import": {"imported_from": "gpt2"},
    "a step alone": {"step": 3},
    "a path alone": {"config": {"data": {"path": "a.txt"}}},
    "a loss without a text": {"held_out": {"bits_per_byte": 1.0}},
    "wrong types": {"config": [], "step": "x", "held_out": 3, "base_model": 1, "imported_from": {}},
    "more wrong types": {"config": {"data": {"path": 3}}, "held_out": {"bits_per_byte": "1"}},
    "an overlap of wrong types": {"overlap": {"share": "1", "unit": 3}},
    "half an overlap": {"overlap": {"share": math.nan}},
    "an overlap with signs of Markdown": {"overlap": {"share": 0.5, "unit": "`\n\n\n# \x1b"}},
    "values that are not finite": RUN | {"held_out": {"bits_per_byte": math.nan, "x": math.inf}},
    "characters of YAML and Markdown": RUN
    | {
        "config": {"data": {"path": 'a: "b" #- [c]`\n---\n{d}'}},
        "base_model": "---\n`x`: {prompt}",
    },
    "characters that cannot be shown": RUN
    | {"config": {"data": {"path": "\ud800\x1b[31m\u2028\ufffe\x85.txt"}}, "base_model": "\udcff"},
    "other scripts": RUN | {"config": {"data": {"path": "Ȳdra 龍 🐉.txt"}}, "base_model": "Ȳdra"},
    "strange versions": RUN | {"versions": {"jax": None, "device": "`\n", "numpy": 3}},
    "strange settings": RUN
    | {"config": {"data": {"path": "a", "held_out": None}, "train": 3, "optim": {"lr": {}}}}
    | {"versions": {"jax": "1"}},
    "a long name": RUN | {"base_model": "x" * 10_000},
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_cards_are_valid_when_values_are_missing_or_strange(name: str) -> None:
    card = make_card(MODEL, MANIFESTS[name])
    card.encode()
    assert all(c.isprintable() or c == "\n" for c in card)
    assert "None" not in card
    assert "nan" not in card
    assert "``" not in card.replace("```", "")
    assert "\n\n\n" not in card
    data, text = read_card(MANIFESTS[name])
    assert data["library_name"] == "transformers"
    assert len(data.get("base_model", "")) <= 96
    assert text.strip().startswith("# A GPT-2")


def test_the_example_of_the_card_runs(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = (directory / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(directory)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(example, {})
    assert output.getvalue().startswith("The")


def test_loading_does_not_depend_on_the_card(directory: Path) -> None:
    (directory / "README.md").write_text("my own card")
    step = load_bundle(directory).manifest["step"]
    (directory / "README.md").unlink()
    assert load_bundle(directory).manifest["step"] == step
