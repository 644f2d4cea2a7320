"""The TorchScript file: alone in the world, whole or absent, and the same text in it."""

import json
import random
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bridge import torchscript
from bridge.gpt import to_module
from valyrian_jax.bundle.bundle import Bundle, save_bundle
from valyrian_jax.errors import UserError

ALONE = """
import sys, warnings
warnings.simplefilter("ignore")
for name in ("valyrian_jax", "bridge", "jax", "numpy", "safetensors", "tokenizers"): sys.modules[name] = None
import torch
module = torch.jit.load(sys.argv[1])
print(repr(module.generate_text("the dragon", 40, 0.8, 0, 0.95, 7)))
print(module.encode("Ȳdra daor"), repr(module.decode(module.encode("Ȳdra daor"))), module.defaults())
"""


def test_a_file_needs_nothing_but_torch(file: Path, script: Any, tmp_path: Path) -> None:
    options = {"capture_output": True, "text": True, "check": True, "timeout": 120, "cwd": tmp_path}
    done = subprocess.run([sys.executable, "-I", "-c", ALONE, str(file)], **options)
    text, ids = script.generate_text("the dragon", 40, 0.8, 0, 0.95, 7), script.encode("Ȳdra daor")
    assert done.stdout == f"{text!r}\n{ids} 'Ȳdra daor' (100, 0.8, 0, 0.95, 0)\n"


def test_a_file_carries_its_papers(file: Path, directory: Path) -> None:
    _, papers = torchscript.load(file)
    for name in ("config.json", "tokenizer.json", "manifest.json"):
        assert papers[name] == json.loads((directory / name).read_text())
    assert papers["certificate.json"]["parity"] is None
    assert len(papers["certificate.json"]["examples"]) == 4


def test_parity_is_taken_along_if_it_is_of_these_weights(
    directory: Path, small: Bundle, tmp_path: Path
) -> None:
    save_bundle(small, tmp_path / "b")
    parity = {"sha256": torchscript.fingerprint(tmp_path / "b"), "passed": True}
    (tmp_path / "b" / "parity.json").write_text(json.dumps(parity))
    assert torchscript.read_parity(tmp_path / "b") == parity
    config = tmp_path / "b" / "config.json"
    config.write_text(config.read_text().replace("0.001", "0.002"))
    assert torchscript.read_parity(tmp_path / "b") is None
    (tmp_path / "b" / "parity.json").write_text("{bad")
    with pytest.raises(UserError, match="is not JSON"):
        torchscript.read_parity(tmp_path / "b")


def test_text_becomes_the_ids_of_the_tokenizer_and_comes_back(small: Bundle, script: Any) -> None:
    draw = random.Random(0)
    letters = "abs  \n\t\u00a0\u3000'’ēll're'veldtm12é½漢🐉\u200d\u0301\x00\x85ȳ\x1b"
    texts = [
        "",
        "\x00",
        unicodedata.normalize("NFD", "ȳdrassis ēdruta"),
        "👩‍👩‍👧 🇸🇪",
        "\r\n\x07",
        "<|endoftext|>",
        " " * 50,
    ]
    texts += ["".join(draw.choices(letters, k=draw.randrange(60))) for _ in range(300)]
    for text in texts:
        ids = small.tokenizer.encode(text)
        assert script.encode(text) == ids
        assert script.decode(ids) == text


def test_ids_that_are_no_utf8_decode_as_in_python(small: Bundle, script: Any) -> None:
    draw = random.Random(1)
    for _ in range(200):
        ids = [draw.randrange(small.model.vocab_size) for _ in range(draw.randrange(40))]
        assert script.decode(ids) == small.tokenizer.decode(ids)
    for wrong in (-1, small.model.vocab_size):
        with pytest.raises(Exception, match="outside the vocabulary"):
            script.decode([wrong])


def test_logits_are_bit_for_bit_those_of_the_module_at_any_shape(
    script: Any, small: Bundle
) -> None:
    gpt = to_module(small)
    for shape in ((1, 1), (3, 24), (7, 2), (1, 5)):
        tokens = torch.randint(0, 300, shape, generator=torch.Generator().manual_seed(0))
        assert torch.equal(script(tokens), gpt(tokens))
        assert script(tokens).shape == (*shape, small.model.vocab_size)


def test_settings_are_checked_in_the_file_too(script: Any) -> None:
    with pytest.raises(Exception, match="top_p must be above 0"):
        script.generate_text("a", 3, 1.0, 0, 0.0, 0)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_file_that_gives_other_tokens_fails_its_check(file: Path, tmp_path: Path) -> None:
    module, papers = torchscript.load(file)
    papers["certificate.json"]["examples"][1]["tokens"][20] ^= 1
    texts = {name: json.dumps(paper) for name, paper in papers.items()}
    torch.jit.save(module, str(tmp_path / "other.pt"), _extra_files=texts)
    with pytest.raises(UserError, match="gives other tokens here than where it was made"):
        torchscript.check(tmp_path / "other.pt")
    torchscript.check(file)
    papers["certificate.json"]["examples"][1]["tokens"][20] ^= 1
    papers["certificate.json"]["examples"][2]["text"] += "!"
    texts["certificate.json"] = json.dumps(papers["certificate.json"])
    torch.jit.save(module, str(tmp_path / "other.pt"), _extra_files=texts)
    with pytest.raises(UserError, match="for tokens that were"):
        torchscript.check(tmp_path / "other.pt")
    for certificate, words in (
        ("{}", "KeyError 'format_version'"),
        ('{"format_version": 99}', "has format 99"),
    ):
        torch.jit.save(
            module,
            str(tmp_path / "other.pt"),
            _extra_files=texts | {"certificate.json": certificate},
        )
        with pytest.raises(UserError, match=words):
            torchscript.check(tmp_path / "other.pt")


def test_a_damaged_file_is_refused(file: Path, tmp_path: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x40
    (tmp_path / "damaged.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"damaged\.pt (is damaged|is not a TorchScript file)"):
        torchscript.check(tmp_path / "damaged.pt")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_what_is_not_a_file_of_ours_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read .*none.pt"):
        torchscript.load(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("no zip")
    with pytest.raises(UserError, match="is not a TorchScript file"):
        torchscript.load(tmp_path / "text.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "linear.pt"))
    with pytest.raises(UserError, match="but not one that `python -m bridge export` wrote"):
        torchscript.load(tmp_path / "linear.pt")


def test_a_failed_export_leaves_the_old_file_and_no_half_one(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model.pt"
    out.write_text("old")
    monkeypatch.setattr(
        torchscript,
        "examples",
        lambda *_: [{"settings": (0.0, 0, 1.0, 0), "tokens": [1, 0], "text": ""}],
    )
    with pytest.raises(UserError, match="was not written, because the file fails its check"):
        torchscript.export(directory, out)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
    assert out.read_text() == "old"
    with pytest.raises(UserError, match="is a directory"):
        torchscript.export(directory, tmp_path)


@pytest.mark.parametrize("tied", [False, True])
def test_int8_is_a_third_of_the_size_and_says_what_it_costs(
    make: Callable[..., Bundle], tied: bool, tmp_path: Path
) -> None:
    source = make(n_embd=192, tie_word_embeddings=tied)
    save_bundle(source, tmp_path / "b")
    # `export` is `write` and a check in a fresh process; one of the two is enough of that
    make_file = torchscript.write if tied else torchscript.export
    cost = make_file(tmp_path / "b", tmp_path / "rounded.pt", int8=True)["int8"]
    torchscript.check(tmp_path / "rounded.pt")
    assert (tmp_path / "rounded.pt").stat().st_size < (
        tmp_path / "b" / "model.safetensors"
    ).stat().st_size / 3
    assert 0 < cost["kl_mean"] < cost["kl_max"] < 0.1
    assert 0.9 < cost["top1"] <= 1
    tokens = torch.randint(0, 300, (4, 24), generator=torch.Generator().manual_seed(0))
    modules = to_module(source), torchscript.load(tmp_path / "rounded.pt")[0]
    p, q = (module(tokens).double().log_softmax(-1) for module in modules)
    assert 0 < (p.exp() * (p - q)).sum(-1).mean() < 5 * cost["kl_mean"]
