"""Commands that take a bundle say what else they were given, and to import weights first."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click import Command
from safetensors.torch import load_file, save_file

import train
from bridge import __main__ as bridge_main
from tests.support.commands import call
from valyrian_jax.bundle.bundle import Bundle, load_bundle, save_bundle
from valyrian_jax.cli.main import main as jax_main
from valyrian_jax.errors import UserError

COMMANDS: dict[str, tuple[Command, list[str]]] = {
    "train --init": (train.main, ["--init"]),
    "sample": (jax_main, ["sample"]),
    "generate": (bridge_main.main, ["generate"]),
    "verify": (bridge_main.main, ["verify"]),
    "export": (bridge_main.main, ["export"]),
}


def use_bfloat16(directory: Path) -> None:
    file = directory / "model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(file).items()}, file)


def use_shards(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "model-00001-of-00001.safetensors")
    (directory / "model.safetensors.index.json").write_text('{"weight_map": {}}')


def use_bin(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    torch.save(tensors, directory / "pytorch_model.bin")


def use_nanogpt(directory: Path) -> None:
    for file in directory.iterdir():
        file.unlink()
    torch.save({"model": {}, "model_args": {}}, directory / "ckpt.pt")


def use_old_tokenizer(directory: Path) -> None:
    (directory / "tokenizer.json").rename(directory / "vocab.json")


FORMS: list[Callable[[Path], None]] = [
    use_bfloat16,
    use_shards,
    use_bin,
    use_nanogpt,
    use_old_tokenizer,
]


@pytest.fixture
def foreign(small: Bundle, tmp_path: Path) -> Path:
    """A GPT-2 directory with a space in its name."""
    path = tmp_path / "my gpt2"
    save_bundle(small, path)
    (path / "manifest.json").unlink()
    return path


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_weights_of_another_program_must_be_imported_first(
    command: str,
    form: Callable[[Path], None],
    foreign: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    form(foreign)
    monkeypatch.chdir(foreign.parent)
    program, arguments = COMMANDS[command]
    status, out, err = call(program, capsys, monkeypatch, *arguments, "my gpt2")
    assert (status, out) == (2, "")
    assert "run `python -m bridge import 'my gpt2' -o NEW` first" in err.splitlines()[-1]
    assert sorted(path.name for path in foreign.parent.iterdir()) == ["my gpt2"]


def test_an_imported_directory_is_taken(foreign: Path, tmp_path: Path) -> None:
    from bridge.importers.gpt2 import read_gpt2

    use_bfloat16(foreign)
    save_bundle(read_gpt2(foreign).bundle, tmp_path / "new")
    assert load_bundle(tmp_path / "new").manifest["imported_from"] == "my gpt2"


def test_a_head_that_is_not_tied_as_the_configuration_says_is_refused(
    foreign: Path,
) -> None:
    config = foreign / "config.json"
    config.write_text(config.read_text().replace('"tie_word_embeddings": false', '"x": 0'))
    with pytest.raises(UserError, match="differs from the token embedding; .* import"):
        load_bundle(foreign)


def test_what_is_no_bundle_is_named(small: Bundle, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    save_bundle(small, run / "bundle")
    (run / "config.toml").touch()
    empty = tmp_path / "empty"
    empty.mkdir()
    text = tmp_path / "a.txt"
    text.touch()
    shutil.copy(run / "bundle" / "model.safetensors", tmp_path)
    for path, message in (
        (run, f"is a run directory, expected the bundle in it; pass {run / 'bundle'}"),
        (empty, "found no config.json, model.safetensors, tokenizer.json in it; check the path"),
        (text, "expected a directory with config.json.* found a file; check the path"),
        (tmp_path / "model.safetensors", "found a file; import it"),
        (tmp_path / "none", "no bundle at"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            load_bundle(path)
        assert "UTF-8" not in str(caught.value)


def test_check_and_import_say_which_kind_of_file_they_found(
    directory: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(*arguments: Any) -> str:
        status, _, err = call(bridge_main.main, capsys, monkeypatch, *arguments)
        assert (status, err.count("\n")) == (2, 1)
        return err

    assert "expected a regular file, found a directory" in run("check", directory)
    (tmp_path / "file").write_text("mine")
    assert "expected a directory or a new name, found a file" in run(
        "import", directory, "-o", tmp_path / "file"
    )
    assert (tmp_path / "file").read_text() == "mine"
