"""The C++17 runner gives the tokens, the logits and the texts of Python."""

import platform
import random
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as StorageType

from bridge.cpp.native import make_unicode_classes
from bridge.cpp.native.example import Model
from bridge.generator import Generator
from bridge.gguf.writer import round_weights, write_gguf
from bridge.parity_runtimes import SAMPLER_SETTINGS
from bridge.streaming import stream
from bridge.torchscript import EXAMPLE_SETTINGS
from tests.support.hostile_texts import HOSTILE_TEXTS
from tests.support.native import ROOT, SOURCES, build_native
from valyrian_jax import __version__
from valyrian_jax.bundle.bundle import Bundle, load_bundle
from valyrian_jax.bundle.shipped_model import SHIPPED_MODEL
from valyrian_jax.bundle.text_generation import NOT_FINITE, generate_many_texts
from valyrian_jax.config import SampleConfig

PROMPTS = ["", "the dragon", "Ȳdra daor 🐉", "wolf " * 40, "they're  \t", "x" * 90]
INSTRUCTIONS = ("base", "avx2", "avx512")
CPU_INFO = Path("/proc/cpuinfo")
AVX2 = {"avx2", "fma", "f16c"}
FLAGS = {
    "avx2": AVX2,
    "avx512": AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"},
}
Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="module")
def built() -> Path:
    """The directory of the program and the library."""
    return build_native()


@pytest.fixture(scope="module")
def run(built: Path) -> Run:
    """A function that runs the program with some arguments."""

    def run(*arguments: Any, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command: list[Any] = [
            built / "valyrian-run",
            *(arg if isinstance(arg, bytes) else str(arg) for arg in arguments),
        ]
        return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=60)

    return run


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that writes a bundle as a GGUF file."""

    def write(bundle: Bundle, wanted: StorageType = StorageType.F32) -> Path:
        path = tmp_path_factory.mktemp("file") / "model.gguf"
        write_gguf(path, bundle, wanted, {"activation": bundle.model.activation})
        return path

    return write


@pytest.fixture(scope="module")
def model_file(write: Callable[..., Path], small: Bundle) -> Path:
    return write(small)


@pytest.fixture(scope="module")
def open_model(built: Path) -> Callable[..., Model]:
    """A function that opens a file in the library."""

    def open_model(path: Path | bytes, instructions: str | None = None) -> Model:
        try:
            return Model(built / "libvalyrian.so", path, instructions)
        except ValueError as error:
            if "this processor has no instructions" in str(error):
                pytest.skip(str(error))
            raise

    return open_model


@pytest.mark.parametrize("settings", EXAMPLE_SETTINGS, ids=str)
def test_tokens_equal_those_of_pytorch(
    run: Run, model_file: Path, small: Bundle, settings: tuple[Any, ...]
) -> None:
    names = [name.replace("_", "-") for name in SAMPLER_SETTINGS[: len(settings)]]
    options = [f"--{name}={value}" for name, value in zip(names, settings, strict=True)]
    arguments = ("--prompts", "-", "--ids", "--max-new-tokens", 50, "--num-samples", 2, *options)
    done = run(model_file, *arguments, stdin="\n".join([*PROMPTS, ""]).encode())
    assert done.returncode == 0, done.stderr
    lines = iter(done.stdout.decode().splitlines())
    generator = Generator(small)
    for prompt in PROMPTS:
        start = small.tokenizer.encode(prompt) or [small.tokenizer.end_of_text]
        expected = generator.generate(torch.tensor([start] * 2), 50, *settings)[:, len(start) :]
        for row in expected.tolist():
            assert [int(i) for i in next(lines).split()] == row
    assert next(lines, None) is None


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": True, "activation": "gelu"},
        {"n_embd": 10, "n_head": 5, "n_positions": 100, "layer_norm_epsilon": 1e-5},
        {"n_embd": 192, "n_head": 2, "n_layer": 1},
        {"n_positions": 2, "n_embd": 1, "n_head": 1},
    ],
    ids=str,
)
def test_logits_equal_those_of_pytorch(
    open_model: Callable[..., Model],
    write: Callable[..., Path],
    make: Callable[..., Bundle],
    instructions: str,
    changes: dict[str, Any],
) -> None:
    bundle = make(**changes)
    model = open_model(write(bundle), instructions)
    for count in {1, 2, bundle.model.n_positions // 2, bundle.model.n_positions}:
        tokens = np.random.default_rng(count).integers(0, bundle.model.vocab_size, count)
        expected = Generator(bundle)(torch.tensor(tokens)[None])[0].numpy()
        found = np.array(model.logits(tokens.tolist())).reshape(expected.shape)
        np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, np.abs(expected).max()))
    model.close()


@pytest.mark.skipif(not CPU_INFO.exists(), reason="needs the flags of the processor")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 processor")
@pytest.mark.parametrize("instructions", FLAGS)
def test_the_instructions_of_the_processor_are_found(
    built: Path, model_file: Path, instructions: str
) -> None:
    """A runner that does not find them is half as fast."""
    flags = re.search(r"^flags\s*:(.*)", CPU_INFO.read_text(), re.MULTILINE)
    assert flags
    if FLAGS[instructions] <= {*flags[1].split()}:
        Model(built / "libvalyrian.so", model_file, instructions).close()
    else:
        with pytest.raises(ValueError, match="this processor has no instructions"):
            Model(built / "libvalyrian.so", model_file, instructions)


@pytest.mark.parametrize("wanted", [StorageType.F16, StorageType.Q8_0])
def test_rounded_weights_are_those_in_the_file(
    open_model: Callable[..., Model],
    write: Callable[..., Path],
    make: Callable[..., Bundle],
    wanted: StorageType,
) -> None:
    bundle = make(n_embd=96)
    model = open_model(write(bundle, wanted))
    tokens = [*range(24)]
    expected = Generator(round_weights(bundle, wanted))(torch.tensor([tokens]))[0].numpy()
    exact = Generator(bundle)(torch.tensor([tokens]))[0].numpy()
    found = np.array(model.logits(tokens)).reshape(expected.shape)
    rounding = np.abs(expected - exact).max()
    # With q8_0, the inputs of the products are rounded to int8 too.
    allowed = 1e-4 if wanted == StorageType.F16 else 3 * rounding
    assert np.abs(found - expected).max() < allowed


@pytest.mark.parametrize("wanted", [StorageType.F32, StorageType.Q8_0])
def test_threads_do_not_change_the_tokens(
    run: Run, write: Callable[..., Path], make: Callable[..., Bundle], wanted: StorageType
) -> None:
    path = write(make(n_embd=96, n_head=3), wanted)
    options = ("--prompts", "-", "--ids", "--max-new-tokens", 40, "--num-samples", 3)
    expected, *others = (
        run(path, *options, "--threads", threads, stdin="\n".join([*PROMPTS, ""]).encode())
        for threads in (1, 2, 5)
    )
    assert len(expected.stdout) > 1000, expected.stderr
    for done in others:
        assert done.stdout == expected.stdout


def test_the_tokenizer_gives_the_ids_of_python(
    open_model: Callable[..., Model], write: Callable[..., Path], valyrian_sample: bytes
) -> None:
    bundle = load_bundle(SHIPPED_MODEL)
    model, tokenizer = open_model(write(bundle)), bundle.tokenizer
    draw = random.Random(0)
    alphabet = "aā ſ'sSltvred\n\t\r\x85\u3000\u00a0٣1²🐉\u0301\ud800\u10fffe'’  "
    texts = [make_text(200) for make_text in HOSTILE_TEXTS.values()]
    texts += ["".join(draw.choices(alphabet, k=30)).encode("utf-8", "replace") for _ in range(2000)]
    texts += [draw.randbytes(20) for _ in range(500)]
    texts += [bytes(draw.choices(b"\xe0\xa0\x80\xf0\x9f\xed\xc3 a'", k=12)) for _ in range(2000)]
    texts += [
        "".join(map(chr, range(n, n + 64))).encode("utf-8", "replace")
        for n in range(0, 0x30000, 64)
    ]
    texts += [valyrian_sample, b"a" * 100_000, b""]
    for text in texts:
        ids = model.encode(text)
        assert ids == tokenizer.encode_bytes(text), text[:100]
        assert model.decode(ids) == text.decode("utf-8", "replace")


@pytest.fixture(scope="module")
def valyrian_sample() -> bytes:
    return (ROOT / "data/High Valyrian.txt").read_bytes()[:200_000]


def test_the_classes_of_characters_are_those_of_python() -> None:
    assert make_unicode_classes.HEADER.read_text() == make_unicode_classes.make_header()


@pytest.mark.parametrize(
    "stop",
    [(), ("e",), ("never there",), ("he", "the"), ("er", "e", " dra"), ("\ufffd",), ("wolf ",)],
)
def test_texts_equal_those_of_pytorch(
    run: Run,
    open_model: Callable[..., Model],
    model_file: Path,
    small: Bundle,
    stop: tuple[str, ...],
) -> None:

    options = ["--max-new-tokens", 60, "--temperature", 1.2, "--top-p", 1, "--num-samples", 3]
    options += [option for text in stop for option in ("--stop", text)]
    model = open_model(model_file)
    generator = Generator(small)
    for prompt in ("the wolf ", "Ȳdra 🐉"):
        sample = SampleConfig(prompt, 60, 1.2, 0, 1.0, 5, stop=stop)
        texts = [*generate_many_texts(lambda *a: stream(generator, *a), small.tokenizer, sample, 3)]
        done = run(model_file, "--prompt", prompt, "--seed", 5, *options)
        expected = "".join(f"[seed {5 + i}] {text}\n" for i, text in enumerate(texts))
        assert (done.returncode, done.stdout.decode()) == (0, expected), done.stderr
        settings = model.settings(stop, max_new_tokens=60, temperature=1.2, top_p=1.0, seed=5)
        assert prompt + "".join(model.stream(prompt, settings)) == texts[0]
    model.close()


def test_a_model_from_bytes_is_that_of_the_file(
    open_model: Callable[..., Model], model_file: Path
) -> None:
    content = bytearray(model_file.read_bytes())
    model = open_model(bytes(content))
    expected = open_model(model_file)
    assert model.logits([1, 2, 3]) == expected.logits([1, 2, 3])
    with pytest.raises(ValueError, match="cannot load the bytes of a model: it is not a GGUF"):
        open_model(b"")
    model.close()
    expected.close()


@pytest.mark.slow
def test_without_exceptions_an_error_goes_to_the_handler(tmp_path: Path, model_file: Path) -> None:
    """As in WebAssembly; the handler of a program that sets none ends it."""
    library = tmp_path / "libvalyrian.so"
    command = ["g++", "-std=c++17", "-O0", "-fno-exceptions", "-fno-rtti", "-shared", "-fPIC"]
    subprocess.run([*command, SOURCES / "valyrian.cpp", "-o", library], check=True)
    code = (
        "import sys; from pathlib import Path; from bridge.cpp.native.example import Model\n"
        "model = Model(Path(sys.argv[1]), Path(sys.argv[2])); print(model.encode(b'a'))\n"
        "Model(Path(sys.argv[1]), b'GGUF')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, library, model_file],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "[64]\n"), done.stderr
    assert done.stderr == "error: it is not a GGUF file\n"


def test_malformed_utf8_in_a_prompt_is_replaced_as_in_python(run: Run, model_file: Path) -> None:
    prompt = b"ab\xff\xe2\x82 c"
    found = run(model_file, "--prompt", prompt)
    expected = run(model_file, "--prompt", prompt.decode("utf-8", "replace"))
    assert (found.stdout, found.returncode) == (expected.stdout, 0)


def test_settings_default_to_those_in_the_file(
    run: Run, write: Callable[..., Path], small: Bundle
) -> None:
    sample = {"temperature": 1.1, "top_k": 7, "max_new_tokens": 9, "seed": 3, "stop": ["wo"]}
    path = write(replace(small, manifest={"config": {"sample": sample}}))
    options = ["--temperature=1.1", "--top-k=7", "--max-new-tokens=9", "--seed=3", "--stop=wo"]
    assert run(path, "--prompt", "the").stdout == run(path, "--prompt", "the", *options).stdout
    assert run(path, "--prompt", "the").stdout != run(path, "--prompt", "the", "--seed=4").stdout


def test_the_version_is_that_of_the_package(run: Run) -> None:
    done = run("--version")
    assert (done.returncode, done.stdout.decode()) == (0, f"valyrian-gpt {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{file}", "--threads", "65"], "--threads is '65', expected a whole number from 1 to 64"),
        (["{file}", "--colour"], "unknown option --colour"),
        (["{file}", "--instructions", "mmx"], "this processor has no instructions 'mmx'"),
        (["{file}", "--prompts", "/nowhere"], "cannot read /nowhere"),
        (["/nowhere"], "cannot load /nowhere: No such file or directory; expected"),
        (["/dev/zero"], "cannot load /dev/zero: it is a directory or a stream; expected"),
        ([SOURCES / "main.cpp"], "it is not a GGUF file"),
    ],
    ids=str,
)
def test_errors_are_one_line(
    run: Run, model_file: Path, arguments: list[Any], message: str
) -> None:
    done = run(*(str(arg).replace("{file}", str(model_file)) for arg in arguments))
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().count("\n") == 1
    assert message in done.stderr.decode()


@pytest.mark.parametrize("wanted", [StorageType.F32, StorageType.Q8_0])
def test_weights_that_overflow_are_an_error(
    run: Run, write: Callable[..., Path], make: Callable[..., Bundle], wanted: StorageType
) -> None:
    bundle = make(n_embd=96)
    tensors = dict(bundle.tensors)
    tensors["transformer.h.0.ln_1.bias"] = np.full(96, 3e38, np.float32)
    tensors["transformer.h.0.ln_1.weight"] = np.full(96, 3e38, np.float32)
    done = run(write(replace(bundle, tensors=tensors), wanted), "--prompt", "the")
    assert (done.returncode, done.stderr.decode()) == (2, f"error: {NOT_FINITE}\n")


def test_a_full_disk_is_an_error(built: Path, model_file: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [built / "valyrian-run", model_file],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (2, b"error: cannot write to standard output\n")
