"""Settings of PyTorch that callers change neither change results nor are changed."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bridge import torchscript
from bridge.generator import Generator
from bridge.inspection import attention_row, lens_table
from bridge.streaming import stream
from bridge.tokenizer import ByteBPE
from bridge.torch_settings import pin_torch_settings
from bridge.web.session import stream_events
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.config import SampleConfig
from valyrian_jax.errors import UserError

SAMPLE = SampleConfig("the wolf", 40, 1.0, 9, 0.9, 3)


@contextlib.contextmanager
def set_default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def set_default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def use_deterministic_algorithms() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


Setting = Callable[[], contextlib.AbstractContextManager[Any]]
# Settings that also change how a file runs in another program.
GLOBAL_SETTINGS: dict[str, Setting] = {
    "bfloat16": lambda: set_default_dtype(torch.bfloat16),
    "float16": lambda: set_default_dtype(torch.float16),
    "float64": lambda: set_default_dtype(torch.float64),
    "meta device": lambda: set_default_device("meta"),
    "device context": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "deterministic": use_deterministic_algorithms,
}
SETTINGS = GLOBAL_SETTINGS | {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


def compute(bundle: Bundle) -> list[Any]:
    """Return tokens, events, attention and lens of a new generator."""
    generator = Generator(bundle)
    tokens = [row.tolist() for row in stream(generator, [[1, 2, 3]] * 2, [3, 4], SAMPLE)]
    ids = ByteBPE(bundle.tokenizer).encode(torch.tensor(list(b"the wolf"), device="cpu")).tolist()
    start, weights = attention_row(generator, list(range(30)))
    lens = lens_table(generator, bundle.tokenizer, list(range(30)))[1].probabilities.tolist()
    events = [*stream_events(generator, bundle.tokenizer, SAMPLE)]
    return [tokens, ids, events, start, lens, *weights]


def compute_with_file(script: Any) -> list[Any]:
    tokens = torch.arange(10, dtype=torch.int64, device="cpu")[None]
    text = script.generate_text("Ȳdra daor 🐉", 40, 1.0, 0, 0.9, 3)
    return [text, script.encode(text), script.generate(tokens, 40, 1.0, 5, 1.0, 7), script(tokens)]


def assert_equal(actual: list[Any], expected: list[Any]) -> None:
    for a, b in zip(actual, expected, strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.fixture(scope="module")
def expected(small: Bundle) -> list[Any]:
    return compute(small)


@pytest.fixture(scope="module")
def expected_of_file(script: Any) -> list[Any]:
    return compute_with_file(script)


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_the_caller_change_no_text(
    name: str, small: Bundle, expected: list[Any]
) -> None:
    with SETTINGS[name]():
        assert_equal(compute(small), expected)


@pytest.mark.parametrize("name", GLOBAL_SETTINGS)
def test_a_file_gives_the_same_text_under_settings_of_its_host(
    name: str, script: Any, file: Path, expected_of_file: list[Any]
) -> None:
    with GLOBAL_SETTINGS[name]():
        assert_equal(compute_with_file(script), expected_of_file)
        assert_equal(compute_with_file(torchscript.load(file)[0]), expected_of_file)


@pytest.mark.slow
def test_files_do_not_depend_on_settings_of_the_caller(
    directory: Path, expected_of_file: list[Any], tmp_path: Path
) -> None:
    from bridge import exported_program  # takes longer than the rest of PyTorch

    with contextlib.ExitStack() as stack:
        for setting in (*SETTINGS.values(), SETTINGS["bfloat16"]):
            stack.enter_context(setting())
        torchscript.write(directory, tmp_path / "model.pt")
        torchscript.check(tmp_path / "model.pt")
        torchscript.write(directory, tmp_path / "int8.pt", int8=True)
        exported_program.write(directory, tmp_path / "model.pt2")
        exported_program.check(tmp_path / "model.pt2")
    assert_equal(compute_with_file(torchscript.load(tmp_path / "model.pt")[0]), expected_of_file)
    torchscript.check(tmp_path / "int8.pt")


def test_settings_are_restored_between_tokens_and_after_errors(small: Bundle) -> None:
    with set_default_dtype(torch.bfloat16), torch.device("meta"), torch.no_grad():
        for _ in stream(Generator(small), [[1]], [3], SAMPLE):
            zeros = torch.zeros(1)
            assert (zeros.dtype, zeros.device.type) == (torch.bfloat16, "meta")
        with pytest.raises(ZeroDivisionError), pin_torch_settings():
            raise ZeroDivisionError
        assert torch.get_default_dtype() == torch.bfloat16
        assert not torch.is_grad_enabled()


def test_export_without_torchscript_names_the_variable(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.jit._state._enabled.enabled", False)  # as PYTORCH_JIT=0 does
    with pytest.raises(UserError, match="expected PYTORCH_JIT to be unset"):
        torchscript.write(directory, tmp_path / "model.pt")
    assert not [*tmp_path.iterdir()]
