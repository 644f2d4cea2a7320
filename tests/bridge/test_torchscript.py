"""The TorchScript file is self-contained, whole or absent, and gives the text of the module."""

import io
import json
import random
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bridge import __main__ as main
from bridge import int8, torchscript
from bridge.generator import Generator
from bridge.gpt import to_module
from bridge.text_generator import TextGenerator
from tests.support.commands import call
from tests.support.full_disk import file_size_limit
from valyrian_jax.bundle.bundle import Bundle, load_bundle, save_bundle
from valyrian_jax.errors import UserError

ROOT = Path(__file__).parents[2]
BLOCKED = ("valyrian_jax", "bridge", "jax", "numpy", "safetensors", "tokenizers")
ONLY_TORCH = f"""
import sys, warnings
warnings.simplefilter("ignore")
for name in {BLOCKED}: sys.modules[name] = None
import torch
module = torch.jit.load(sys.argv[1])
print(repr(module.generate_text("the dragon", 40, 0.8, 0, 0.95, 7)))
ids = module.encode("Ȳdra daor")
print(ids, repr(module.decode(ids)), module.defaults())
"""


def test_the_module_changes_nothing_in_torch_and_checks_a_file_without_the_tracer(
    file: Path,
) -> None:
    """Each export checks its file in a new process, and the tracer takes as long as PyTorch."""
    code = """
import sys, warnings, torch
filters = list(warnings.filters)
def refuse(*_, **__): raise AssertionError("used at import time")
torch.jit.export = torch.jit.script = refuse
import bridge.torchscript
assert warnings.filters == filters
from bridge.file_commands import check
check.main(sys.argv[1:], standalone_mode=False)
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, file], cwd=ROOT, check=True, timeout=120)


def test_a_file_needs_only_torch(file: Path, script: Any, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", ONLY_TORCH, str(file)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=tmp_path,
    )
    text, ids = script.generate_text("the dragon", 40, 0.8, 0, 0.95, 7), script.encode("Ȳdra daor")
    assert done.stdout == f"{text!r}\n{ids} 'Ȳdra daor' (100, 0.8, 0, 0.95, 0, 0.0, 1.0, 0, [])\n"


def test_a_file_has_the_metadata_of_its_bundle(file: Path, directory: Path) -> None:
    metadata = torchscript.check(file)
    for name in ("config.json", "tokenizer.json", "manifest.json"):
        assert metadata[name] == json.loads((directory / name).read_text())
    assert metadata["certificate.json"]["parity"] is None
    assert len(metadata["certificate.json"]["examples"]) == 6


def test_the_number_of_arguments_tells_the_version_of_a_file(file: Path) -> None:
    """As bridge/cpp/README.md says; C++ has it as `num_inputs`."""
    for path, count, version in (
        (ROOT / "tests" / "artifacts" / "0.1.0" / "model.pt", 7, 1),
        (file, 11, 2),
    ):
        module, metadata = torchscript.load(path)
        assert len(module.generate_text.schema.arguments) == count
        assert metadata["certificate.json"]["format_version"] == version


def test_a_file_differs_from_that_of_torch_only_in_the_sources_that_it_lacks(
    small: Bundle, file: Path
) -> None:
    """They would name directories of this machine."""
    module = torchscript.compile_module(TextGenerator(small))
    with (
        zipfile.ZipFile(file) as archive,
        zipfile.ZipFile(io.BytesIO(module.save_to_buffer())) as whole,
    ):
        records, expected = (
            {name.partition("/")[2]: zipped.read(name) for name in zipped.namelist()}
            for zipped in (archive, whole)
        )
    for name, record in records.items():
        assert str(ROOT).encode() not in record
        if not name.startswith("extra/") and name != ".data/serialization_id":
            # PyTorch writes the constants of a class in the order of a set, which each process has
            # its own of.
            assert sorted(record.splitlines()) == sorted(expected.pop(name).splitlines())
    del expected[".data/serialization_id"]
    assert expected
    assert all(name.endswith(".debug_pkl") for name in expected)


def test_text_has_the_ids_of_the_tokenizer_and_round_trips(small: Bundle, script: Any) -> None:
    rng = random.Random(0)
    letters = "abs  \n\t\u00a0\u3000'’ēll're'veldtm12é½漢🐉\u200d\u0301\x00\x85ȳ\x1b"
    texts = ["", "\x00", "👩‍👩‍👧 🇸🇪", "\r\n\x07", "<|endoftext|>", " " * 50]
    texts += [unicodedata.normalize("NFD", "ȳdrassis ēdruta")]
    texts += ["".join(rng.choices(letters, k=rng.randrange(60))) for _ in range(300)]
    for text in texts:
        ids = small.tokenizer.encode(text)
        assert script.encode(text) == ids
        assert script.decode(ids) == text


def test_malformed_utf8_decodes_as_in_python(small: Bundle, script: Any) -> None:
    rng = random.Random(1)
    for _ in range(200):
        ids = [rng.randrange(small.model.vocab_size) for _ in range(rng.randrange(40))]
        assert script.decode(ids) == small.tokenizer.decode(ids)


def test_ids_outside_the_vocabulary_are_an_error(small: Bundle, script: Any) -> None:
    for token in (-1, small.model.vocab_size):
        with pytest.raises(Exception, match="outside the vocabulary"):
            script.decode([token])


def test_logits_equal_those_of_the_module_bit_for_bit_at_any_shape(
    script: Any, small: Bundle
) -> None:
    gpt = to_module(small)
    for shape in ((1, 1), (3, 24), (7, 2), (1, 5)):
        tokens = torch.randint(0, 300, shape, generator=torch.Generator().manual_seed(0))
        assert torch.equal(script(tokens), gpt(tokens))
        assert script(tokens).shape == (*shape, small.model.vocab_size)


def test_the_file_checks_its_settings(script: Any) -> None:
    with pytest.raises(Exception, match="top_p is out of range"):
        script.generate_text("a", 3, 1.0, 0, 0.0, 0)


def change_token(certificate: dict[str, Any]) -> None:
    certificate["examples"][1]["tokens"][20] ^= 1


def change_text(certificate: dict[str, Any]) -> None:
    certificate["examples"][2]["text"] += "!"


def remove_everything(certificate: dict[str, Any]) -> None:
    certificate.clear()


def change_version(certificate: dict[str, Any]) -> None:
    certificate["format_version"] = 99


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_token, "generates other tokens than when it was exported"),
        (change_text, "decodes tokens to another text than when it was exported"),
        (remove_everything, "KeyError 'format_version'"),
        (change_version, "has format 99"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_file_that_differs_from_its_certificate_fails_its_check(
    change: Callable[[dict[str, Any]], None], words: str, file: Path, tmp_path: Path
) -> None:
    module, metadata = torchscript.load(file)
    change(metadata["certificate.json"])
    extra_files = {name: json.dumps(value) for name, value in metadata.items()}
    torch.jit.save(module, str(tmp_path / "other.pt"), _extra_files=extra_files)
    with pytest.raises(UserError, match=words):
        torchscript.check(tmp_path / "other.pt")


def test_a_damaged_file_is_an_error(file: Path, tmp_path: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x40
    (tmp_path / "damaged.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"damaged\.pt (is damaged|is not a TorchScript file)"):
        torchscript.check(tmp_path / "damaged.pt")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_the_error_names_a_file_that_is_not_from_export(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read .*none.pt"):
        torchscript.load(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("no zip")
    with pytest.raises(UserError, match="text.pt is not a TorchScript file"):
        torchscript.load(tmp_path / "text.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "linear.pt"))
    expected = "linear.pt has no config.json; expected a file that `python -m bridge export` wrote"
    with pytest.raises(UserError, match=expected):
        torchscript.load(tmp_path / "linear.pt")


def test_a_failed_export_leaves_the_old_file_and_no_partial_one(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model.pt"
    out.write_text("old")
    wrong = {"settings": (0.0, 0, 1.0, 0), "tokens": [1, 0], "text": ""}
    monkeypatch.setattr(torchscript, "generate_examples", lambda *_: [wrong])
    parts: list[str] = []
    with pytest.raises(UserError, match="was not written: the file fails its check"):
        torchscript.export(directory, out, progress=parts.append)
    assert parts == [
        "loading the weights",
        "generating the example texts",
        "writing the file",
        "checking the file in a new process",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
    assert out.read_text() == "old"
    with pytest.raises(UserError, match="it is a directory"):
        torchscript.export(directory, tmp_path)


def test_a_full_disk_is_an_error_in_one_line_and_leaves_no_file(
    directory: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "model.pt"
    with file_size_limit(40_000):
        status, _, err = call(main.main, capsys, monkeypatch, "export", directory, "-o", path)
    assert status == 2
    *_, last = err.splitlines()
    assert last.startswith(f"error: cannot write {path}: File too large; ")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("tied", [False, True])
def test_int8_is_a_third_of_the_size_and_states_its_cost(
    make: Callable[..., Bundle], tied: bool, tmp_path: Path
) -> None:
    bundle = make(n_embd=192, tie_word_embeddings=tied)
    save_bundle(bundle, tmp_path / "b")
    cost = torchscript.write(tmp_path / "b", tmp_path / "int8.pt", int8=True)["int8"]
    torchscript.check(tmp_path / "int8.pt")
    weights = tmp_path / "b" / "model.safetensors"
    assert (tmp_path / "int8.pt").stat().st_size < weights.stat().st_size / 3
    assert 0 < cost["kl_mean"] < cost["kl_max"] < 0.1
    assert 0.9 < cost["top1"] <= 1
    tokens = torch.randint(0, 300, (4, 24), generator=torch.Generator().manual_seed(0))
    modules = to_module(bundle), torchscript.load(tmp_path / "int8.pt")[0]
    p, q = (module(tokens).double().log_softmax(-1) for module in modules)
    assert 0 < (p.exp() * (p - q)).sum(-1).mean() < 5 * cost["kl_mean"]


def test_examples_of_a_large_model_are_shorter_and_still_checked(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = sum(tensor.nbytes for tensor in load_bundle(directory).tensors.values())
    monkeypatch.setattr(torchscript, "EXAMPLE_READ_BYTES", 6 * 5 * weights)
    certificate = torchscript.write(directory, tmp_path / "m.pt")
    assert [len(example["tokens"]) for example in certificate["examples"]] == [6] * 6
    assert torchscript.check(tmp_path / "m.pt")["certificate.json"]["examples"]


def test_the_cost_of_int8_is_measured_on_less_of_a_large_model(
    small: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpt = to_module(small)
    assert int8.choose_sample(gpt) == (16, small.model.n_positions)
    monkeypatch.setattr(int8, "SMALL", 0)
    monkeypatch.setattr(int8, "READ_BYTES", 5 * sum(t.nbytes for t in small.tensors.values()))
    rows, length = int8.choose_sample(gpt)
    assert 1 <= rows < 16
    assert length == 5
    generator = Generator(small)
    assert 0 <= int8.quantize(generator, small.tokenizer.end_of_text)["top1"] <= 1
