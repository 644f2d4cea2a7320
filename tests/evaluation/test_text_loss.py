"""A run on one line of digits, its report, and the loss of its weights on any text."""

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest

from tests.support.commands import call
from tests.support.runs import load_tiny_config, make_text_console, read_console
from valyrian_jax.bundle.bundle import Bundle, load_bundle
from valyrian_jax.bundle.names import parameter_shapes
from valyrian_jax.cli.main import main
from valyrian_jax.config import ModelConfig
from valyrian_jax.data.split import split_documents
from valyrian_jax.errors import UserError
from valyrian_jax.evaluation import text_loss
from valyrian_jax.evaluation.evaluate import Evaluation
from valyrian_jax.evaluation.report import evaluate_run, make_report
from valyrian_jax.evaluation.text_loss import evaluate_text
from valyrian_jax.tokenizer import train_bpe
from valyrian_jax.training.run import train

CUT = "the last document is longer than the held-out part: cut at a token boundary; 5% of the text"


@pytest.fixture(scope="module")
def digits() -> str:
    return "".join(random.Random(0).choices("0123456789", weights=range(1, 11), k=20_000))


@pytest.fixture(scope="module")
def trained(digits: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run on one line without white space, and its output."""
    directory, console = tmp_path_factory.mktemp("digits"), make_text_console()
    (directory / "digits.txt").write_text(digits)
    config = load_tiny_config(directory / "digits.txt", **{"train.sample_every": 0})
    return train(config, directory / "run", console=console).directory, read_console(console)


@pytest.fixture(scope="module")
def bundle(trained: tuple[Path, str]) -> Bundle:
    return load_bundle(trained[0] / "bundle")


def test_a_run_on_one_line_without_spaces_says_how_it_was_split(
    trained: tuple[Path, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, output = trained
    overlap = "of the held-out 32-byte windows are also in the training part"
    assert f"; 0.0% {overlap}; {CUT} is held out " in " ".join(output.split())
    report = make_report(run, texts=0)
    assert report.overlap == (0, "32-byte windows")
    losses = [row.nats_per_token for row in report.rows.values()]
    assert len(losses) == 2
    assert all(loss and 1 < loss < 6 for loss in losses)
    status, out, _ = call(main, capsys, monkeypatch, "eval", run)
    assert status == 0
    assert f"one of tokens; 0.0% {overlap}; {CUT} is held out" in " ".join(out.split())
    assert max(map(len, out.splitlines()[1:])) <= 80
    record = json.loads(call(main, capsys, monkeypatch, "eval", run, "--json")[1])
    assert record["trigram_unit"] == "tokens"
    assert record["overlap"] == {"share": 0, "unit": "32-byte windows"}
    assert record["cut"].startswith(CUT)


def test_the_loss_on_the_held_out_text_is_that_of_the_run(
    trained: tuple[Path, str],
    digits: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held_out = split_documents([digits], 0.05).held_out[0]
    (tmp_path / "held_out.txt").write_text(f"\n{held_out}\n")
    arguments = ["eval", trained[0], "--text", tmp_path / "held_out.txt"]
    status, out, _ = call(main, capsys, monkeypatch, *arguments, "--json")
    record = json.loads(out)
    assert status == 0
    assert (record["run"], record["text"]) == (str(trained[0]), str(tmp_path / "held_out.txt"))
    evaluation = Evaluation(record["nats_per_token"], record["bits_per_byte"])
    assert evaluation == pytest.approx(evaluate_run(trained[0]), rel=1e-6)
    assert record["bytes"] == len(held_out) + 2
    table = call(main, capsys, monkeypatch, *arguments)[1]
    assert f"{record['nats_per_token']:.4f}" in table
    assert f"{record['tokens']:,}" in table


@pytest.mark.parametrize(
    "documents",
    [["x"], ["天地玄黄。" * 300], ["one\ntwo", "three " * 500, "\x00\x1b[2J"], [" " * 5000]],
    ids=["a letter", "Chinese", "documents", "spaces"],
)
def test_any_text_has_a_loss_in_any_groups_of_windows(
    bundle: Bundle, documents: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = evaluate_text(bundle, documents)
    ids, _ = bundle.tokenizer.encode_documents(documents)
    assert loss.tokens == len(ids) + len(documents)
    assert loss.bytes == len("".join(documents).encode()) + 2 * len(documents)
    assert 0 < loss.nats_per_token < 30
    monkeypatch.setattr(text_loss, "_BATCHES", 1)
    monkeypatch.setattr(text_loss, "_BATCH_TOKENS", 64)
    assert evaluate_text(bundle, documents) == pytest.approx(loss, rel=1e-4)


def test_bits_per_byte_count_two_bytes_for_the_end_of_a_document() -> None:
    model = ModelConfig(vocab_size=257, n_positions=4, n_embd=8, n_layer=1, n_head=1)
    # With weights of zero, all 257 tokens are as probable: 5.549076 nats or 8.005625 bits each.
    tensors = {name: np.zeros(shape, np.float32) for name, shape in parameter_shapes(model).items()}
    loss = evaluate_text(Bundle(model, tensors, train_bpe("a", 257), {}), ["ab", "cé"])
    # Tokens: a b end, c, two bytes of é, end. Bytes: 2 and 3, and 2 for each end.
    assert (loss.tokens, loss.bytes) == (7, 9)
    assert loss.nats_per_token == pytest.approx(5.549076, rel=1e-6)
    assert loss.bits_per_byte == pytest.approx(7 * 8.005625 / 9, rel=1e-6)


def test_a_bad_text_or_option_or_weight_is_refused_in_one_line(
    bundle: Bundle,
    trained: tuple[Path, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    for arguments, message in (
        (["--text", tmp_path / "empty.txt"], "empty.txt is empty"),
        (["--text", tmp_path / "none.txt"], "cannot read the text "),
        (["--text", tmp_path / "none.txt", "--texts", 3], "--texts does not apply to --text FILE"),
    ):
        status, _, err = call(main, capsys, monkeypatch, "eval", trained[0], *arguments)
        assert status == 2
        assert message in err
        assert err.count("\n") == 1
    overflowing = {name: np.full_like(tensor, 1e38) for name, tensor in bundle.tensors.items()}
    with pytest.raises(UserError, match="the logits are not finite"):
        evaluate_text(dataclasses.replace(bundle, tensors=overflowing), ["x"])
