"""Finite weights can overflow; then every runtime says that the logits are not finite."""

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bridge import __main__ as bridge_main
from bridge import torchscript
from bridge.generator import Generator
from bridge.inspection import attention_row
from bridge.sampler import check_logits
from bridge.streaming import stream
from bridge.web.session import add_verdicts, stream_events
from tests.support.commands import call
from valyrian_jax.bundle.bundle import Bundle, save_bundle
from valyrian_jax.bundle.text_generation import NOT_FINITE
from valyrian_jax.cli.main import main as jax_main
from valyrian_jax.config import SampleConfig
from valyrian_jax.errors import UserError
from valyrian_jax.generation.generate import stream_tokens
from valyrian_jax.model.parameters import from_tensors

SAMPLE = SampleConfig("", 30, 1.0, 0, 0.9, 3)


def scale(bundle: Bundle, factor: float) -> Bundle:
    tensors = {name: tensor * np.float32(factor) for name, tensor in bundle.tensors.items()}
    return replace(bundle, tensors=tensors)


@pytest.fixture(scope="module")
def overflowing(small: Bundle) -> Bundle:
    return scale(small, 1e30)


@pytest.fixture(scope="module")
def overflowing_directory(overflowing: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("overflowing") / "bundle"
    save_bundle(overflowing, path)
    return path


def overflow_late(bundle: Bundle, sample: SampleConfig) -> tuple[Bundle, list[int]]:
    """Change a bundle so that its text overflows after some tokens; return it and these tokens.

    The embedding of the last of them is too large.
    """
    start = bundle.tokenizer.end_of_text
    text = [int(row[0]) for row in stream(Generator(bundle), [[start]], [sample.seed], sample)]
    count = next(i for i in range(5, 30) if text[i] not in [0, start, *text[:i]]) + 1
    tensors = {name: tensor.copy() for name, tensor in bundle.tensors.items()}
    tensors["transformer.wte.weight"][text[count - 1]] = np.finfo(np.float32).max
    return replace(bundle, tensors=tensors), text[:count]


def test_every_command_ends_in_the_same_line(
    overflowing_directory: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = str(tmp_path / "model")
    commands: list[tuple[Any, ...]] = [
        (jax_main, "sample"),
        (jax_main, "sample", "--num-samples", 3, "--json"),
        (jax_main, "plot", "--attention", "--prompt", "the wolf", "-o", out),
        (jax_main, "plot", "--lens", "--prompt", "the wolf", "-o", out),
        (bridge_main.main, "generate", "--temperature", 0),
        (bridge_main.main, "export", "-o", out + ".pt"),
        (bridge_main.main, "export", "-o", out + ".pt", "--quantize", "int8"),
        (bridge_main.main, "export", "-o", out + ".pt2", "--format", "export"),
        (bridge_main.main, "verify"),
    ]
    for program, name, *options in commands:
        arguments = (name, overflowing_directory, *options)
        status, output, errors = call(program, capsys, monkeypatch, *arguments)
        assert (status, output) == (2, ""), arguments
        assert errors.splitlines()[-1] == f"error: {NOT_FINITE}", arguments
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_tokens_before_the_overflow_are_equal_in_jax_and_pytorch(
    endless: Bundle, temperature: float
) -> None:
    sample = replace(SAMPLE, temperature=temperature)
    late, expected = overflow_late(endless, sample)
    generators: list[Callable[..., Any]] = [
        functools.partial(stream_tokens, from_tensors(late.tensors), late.model),
        functools.partial(stream, Generator(late)),
    ]
    for generate in generators:
        rows = generate([[late.tokenizer.end_of_text]], [sample.seed], sample)
        assert [int(next(rows)[0]) for _ in expected] == expected
        with pytest.raises(UserError) as error:
            next(rows)
        assert str(error.value) == NOT_FINITE


def test_a_file_says_it_in_any_program(script: Any) -> None:
    for value in (torch.nan, torch.inf, -torch.inf):
        for temperature in (0.0, 1.0):
            with pytest.raises(torch.jit.Error, match="the logits are not finite"):
                script.sample(torch.full((1, 300), value), 0, temperature, 0, 1.0, 0)


def test_the_page_shows_the_tokens_before_and_why_the_text_ended(
    overflowing: Bundle, endless: Bundle
) -> None:
    late, expected = overflow_late(endless, SAMPLE)
    for bundle, tokens in ((overflowing, []), (late, expected)):
        generator = Generator(bundle)
        events = [*add_verdicts(stream_events(generator, bundle.tokenizer, SAMPLE))]
        assert (events[-1]["kind"], events[-1]["why"]) == ("end", "not finite")
        assert [event["id"] for event in events if event["kind"] == "token"] == tokens
        assert "NaN" not in json.dumps(events)
        with pytest.raises(UserError, match="the logits are not finite"):
            attention_row(generator, tokens or [1, 2])


def test_a_file_whose_weights_overflow_fails_its_check(
    overflowing_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = {"settings": (1.0, 0, 1.0, 0), "tokens": [299, 0, 0], "text": ""}
    monkeypatch.setattr(torchscript, "generate_examples", lambda *_: [example])
    torchscript.write(overflowing_directory, tmp_path / "model.pt")
    with pytest.raises(UserError, match="fails to generate its example texts: the logits are not"):
        torchscript.check(tmp_path / "model.pt")


def test_single_logits_may_be_minus_infinity() -> None:
    logits = torch.randn(2, 9)
    logits[0, 1:] = -torch.inf
    check_logits(logits)
    check_logits(torch.full((4, 2, 9), 3e38))
    for row, column, value in ((0, 0, torch.nan), (1, 8, torch.inf), (0, 0, -torch.inf)):
        changed = logits.clone()
        changed[row, column] = value
        with pytest.raises(UserError, match="^" + NOT_FINITE[:60]):
            check_logits(changed)
