"""The model that ships: its card, its texts, and the commands that use it without a run."""

from pathlib import Path

import pytest

import train
from tests.support.commands import call
from tests.support.shipped_model import NOTICE, TEXTS, read_files
from valyrian_jax.bundle.bundle import load_bundle
from valyrian_jax.bundle.model_card import make_card, speaks_valyrian
from valyrian_jax.bundle.shipped_model import (
    EXAMPLE_PROMPT,
    EXAMPLE_SEED,
    SHIPPED_MODEL,
    is_shipped,
    short_name,
)
from valyrian_jax.bundle.text_generation import resolve_sample_config
from valyrian_jax.cli.main import main
from valyrian_jax.config import Config, config_to_tree, load_config
from valyrian_jax.data.windows import EvalSet, EvalWindows
from valyrian_jax.evaluation.evaluate import evaluate, make_eval_step
from valyrian_jax.evaluation.report import open_run
from valyrian_jax.language.checker.text import split_sentences
from valyrian_jax.language.checker.verdict import check_sentence
from valyrian_jax.model.parameters import from_tensors
from valyrian_jax.run_directory import find_bundle


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_card_is_that_of_the_files() -> None:
    bundle = load_bundle(SHIPPED_MODEL)  # which compares every file with the manifest
    card = (SHIPPED_MODEL / "README.md").read_text(encoding="utf-8")
    assert card == make_card(bundle.model, bundle.manifest)
    assert f"{bundle.manifest['held_out']['bits_per_byte']:.4f} bits per byte" in card
    assert f"{sum(tensor.size for tensor in bundle.tensors.values()):,} parameters" in card
    command = (
        "by `python -m valyrian_jax train --model.n_embd 128 --optim.name muon --optim.lr 0.006 "
    )
    assert command in card
    assert "Versions: python 3" in card
    assert "The weights are float32." in card
    assert speaks_valyrian(bundle.manifest)


def test_it_is_the_long_recipe() -> None:
    stored, recipe = load_bundle(SHIPPED_MODEL).manifest["config"], load_config("long")
    tree = config_to_tree(recipe)
    for section in tree.keys() - {"wandb"}:
        assert stored[section].items() <= tree[section].items(), section


def test_it_is_small_and_names_no_directory_of_a_machine() -> None:
    files = read_files()
    assert sum(map(len, files.values())) < 4_000_000
    text = b"".join(content for name, content in files.items() if name != "model.safetensors")
    for name in (b"/home/", b"/tmp/", b"/work/", b"/root/", b"/usr/", b"C:\\"):
        assert name not in text


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (SHIPPED_MODEL, "valyrian"),
        ("runs/first", "first"),
        ("runs/first/bundle", "first"),
        ("runs/first/.", "first"),
        ("runs/../gpt2", "gpt2"),
        (".", "home"),
        ("bundle", "home"),
        ("a\udcff", "a\ufffd"),
        ("/", "model"),
        ("/bundle", "model"),
    ],
)
def test_a_short_name_is_that_of_the_run(
    path: str | Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    assert short_name(Path(path)) == name


@pytest.mark.parametrize(("prompt", "seed"), TEXTS)
def test_commands_use_it_where_no_run_is(
    prompt: str,
    seed: int,
    empty: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ("--prompt", prompt, "--seed", seed)
    taken = call(main, capsys, monkeypatch, "sample", *options)
    assert taken == (0, TEXTS[prompt, seed] + "\n", NOTICE)
    assert list(empty.iterdir()) == []


def test_the_text_of_every_example_is_good() -> None:
    sentences = split_sentences(TEXTS[EXAMPLE_PROMPT, EXAMPLE_SEED])
    assert len(sentences) >= 3
    assert [check_sentence(sentence).reason for sentence in sentences] == [""] * len(sentences)


@pytest.mark.parametrize("runs", [(), ("unfinished",)], ids=["no runs", "a run without weights"])
def test_it_is_found_if_no_run_has_weights(runs: tuple[str, ...], empty: Path) -> None:
    for run in runs:
        (empty / "runs" / run).mkdir(parents=True)
        (empty / "runs" / run / "config.toml").touch()
    assert find_bundle(None) == SHIPPED_MODEL
    assert is_shipped(find_bundle(None))
    (empty / "copy").symlink_to(SHIPPED_MODEL)
    assert is_shipped(empty / "copy")
    assert not is_shipped(empty / "runs")


def test_a_run_with_weights_comes_first(empty: Path) -> None:
    (empty / "runs" / "first" / "bundle").mkdir(parents=True)
    (empty / "runs" / "first" / "config.toml").touch()
    assert find_bundle(None) == Path("runs", "first", "bundle")


def test_eval_and_plot_without_a_run(
    empty: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty / "text.txt").write_text("Valar morghūlis.", encoding="utf-8")
    status, out, err = call(main, capsys, monkeypatch, "eval", "--text", "text.txt")
    assert (status, err) == (0, NOTICE)
    assert out.startswith("the model that ships with valyrian_jax\n")
    status, out, err = call(main, capsys, monkeypatch, "plot")
    assert (status, out) == (2, "")
    assert err.startswith("error: no run with weights under runs/")
    attention = ("plot", "--attention", "--prompt", EXAMPLE_PROMPT)
    assert call(main, capsys, monkeypatch, *attention) == (
        0,
        "attention.png\nattention.svg\n",
        NOTICE,
    )


def test_its_loss_is_the_one_that_its_manifest_names() -> None:
    bundle, dataset = open_run(SHIPPED_MODEL)
    # A part of the held-out set, to save time; its loss differs from that of all by chance.
    windows = dataset.eval_set.windows
    count = len(windows.tokens) // 40
    part = EvalWindows(windows.tokens[:count], windows.counted[:count])
    eval_set = EvalSet(part, dataset.eval_set.text_bytes)
    loss = evaluate(make_eval_step(bundle.model), from_tensors(bundle.tensors), eval_set)
    expected = bundle.manifest["held_out"]["nats_per_token"]
    assert loss.nats_per_token == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("out", [SHIPPED_MODEL, SHIPPED_MODEL.parent])
def test_training_never_overwrites_it(
    out: Path, empty: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_files()
    status, _, err = call(train.main, capsys, monkeypatch, "--out", out)
    assert status == 2
    assert "expected a new or empty directory" in err
    assert read_files() == before


def test_the_settings_of_its_run_are_the_defaults() -> None:
    sample = resolve_sample_config(load_bundle(SHIPPED_MODEL), {})
    assert sample == Config().sample
