"""Wrong arguments of a loaded model end in one line, in JAX and in PyTorch alike."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import bridge
import valyrian_jax as vx


@pytest.mark.parametrize("name", ["valyrian.pt", "valyrian.pt2"])
def test_an_exported_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(bridge.UserError, match="found the file .*; open an exported file with"):
        bridge.load(tmp_path / name)


WRONG = [
    (lambda m: m.generate("a", top_p=-1.0), "top_p = -1.0: input should be greater than 0"),
    (lambda m: m.generate("a", max_new_tokens=2.5), "max_new_tokens = 2.5"),
    (lambda m: m.generate("a", seed=2**32), "seed = 4294967296"),
    (lambda m: m.stream("a", temperature=-1), "temperature = -1"),
    (lambda m: m.generate("a", stop=3), "stop = 3: input should be a valid array"),
    (lambda m: m.generate(None), "expected text, found NoneType None; pass a str"),
    (lambda m: m.generate(["a", 3]), "expected text, found int 3; pass a str"),
    (lambda m: m.generate(b"a"), "expected text, found bytes b'a'"),
    (lambda m: m.stream(["a"]), "expected text, found list"),
    (lambda m: m.generate("a", seeds=[1]), "seeds needs a list of prompts, found one text"),
    (lambda m: m.generate(["a", "b"], seeds=[1]), "seeds must be 2 numbers"),
    (lambda m: m.generate(["a"], seed=1, seeds=[1]), "found 1 and seed = 1; leave one of them out"),
    (lambda m: m.generate(["a"], seeds=[-1]), "seeds[0] = -1: input should be greater than"),
    (lambda m: m.generate("a", stop=""), "stop = '': expected strings of at least one character"),
    (lambda m: m.generate("a", stop=["\ud800"]), r"'stop = \ud800' is not valid Unicode"),
    (lambda m: m.generate("a\ud800"), "the text is not valid Unicode: it has a lone surrogate"),
    (lambda m: m.generate(["a", "\udfff"]), "the text is not valid Unicode"),
    (lambda m: m.stream("\ud800"), "the text is not valid Unicode"),
    (lambda m: m.score("a\ud800"), "the text is not valid Unicode"),
    (lambda m: m.generate(["a"], seeds=[None]), "seeds[0] = None: input should be a valid integer"),
    (lambda m: m.generate(["a"], seeds=[True]), "seeds[0] = True: input should be a valid integer"),
    (lambda m: m.generate(["a"], seeds={1: 2}), "seeds = {1: 2}: input should be a valid list"),
    (lambda m: m.generate(["a"], seeds={1}), "seeds = {1}: input should be a valid list"),
    (lambda m: m.generate(["a"], seeds=5), "seeds = 5: input should be a valid list; pass a list"),
    (lambda m: m.generate(["a"], seeds=np.array([[1]])), "seeds[0] = [1]: input should be a valid"),
    (lambda m: m.generate("a", stop={"a": 1}), "stop = {'a': 1}"),
    (lambda m: m.generate("a", stop={"a"}), "stop: expected text"),
    (lambda m: m.logits([]), "logits needs a list of 1 to 16 token ids, found 0"),
    (lambda m: m.logits([1] * 17), "found 17; pass the ids of one text"),
    (lambda m: m.logits("the"), "ids = 'the': input should be a valid list; make token ids with"),
    (lambda m: m.logits([[1], [1, 2]]), "ids[0] = [1]: input should be a valid integer"),
    (lambda m: m.logits([2**80]), "logits needs token ids from 0 to 299"),
    (lambda m: m.logits([300]), "logits needs token ids from 0 to 299, found [300]"),
    (lambda m: m.logits([0.5]), "ids[0] = 0.5: input should be a valid integer"),
    (lambda m: m.decode([300]), "token id 300 is outside the vocabulary"),
    (lambda m: m.decode([1.5]), "ids[0] = 1.5: input should be a valid integer"),
    (lambda m: m.decode([1, "a"]), "ids[1] = 'a': input should be a valid integer; make token ids"),
    (lambda m: m.decode([True]), "ids[0] = True"),
    (lambda m: m.decode(None), "ids = None: input should be a valid list"),
    (lambda m: m.decode(b"ab"), "ids = b'ab': input should be a valid list"),
    (lambda m: m.encode(None), "text = None: input should be a valid string; pass a str"),
    (lambda m: m.encode(b"x"), "text = b'x': input should be a valid string"),
    (lambda m: m.encode(["a", "b"]), "text = ['a', 'b']: input should be a valid string"),
    (lambda m: m.lens("a", top=0), "top = 0: input should be greater than or equal to 1; pass a"),
    (lambda m: m.lens("a", top=-1), "top = -1: input should be greater than or equal to 1"),
    (lambda m: m.lens("a", top=1.5), "top = 1.5: input should be a valid integer"),
    (lambda m: m.lens("a", top="2"), "top = '2': input should be a valid integer"),
    (lambda m: m.lens("a", top=None), "top = None: input should be a valid integer"),
    (lambda m: m.lens("a", top=True), "top = True: input should be a valid integer"),
    (lambda m: m.score(""), "cannot score an empty text"),
    (lambda m: m.score(["a"]), "expected text, found list ['a']; pass a str"),
    (lambda m: m.attention("the wolf " * 16), "tokens, but the context of the model is 16"),
]


@pytest.mark.parametrize(("use", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_argument_is_one_line(model: Any, use: Any, message: str) -> None:
    with pytest.raises(vx.UserError) as caught:
        use(model)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "sample." not in str(caught.value)  # a section of the configuration


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (5, "path = 5: input should be a valid string; pass a path"),
        (b"/tmp", "path = b'/tmp': input should be a valid string"),
        ("x" * 5000, "xxx... is not a run directory: expected a run or a bundle, found none"),
        ("x" * 5000 + ".pt", "xxx... is not a run directory: expected a run or a bundle"),
        ("", ". is not a run directory: expected a config.toml"),
        ("nul\0", "is not a run directory"),
    ],
    ids=["number", "bytes", "long", "long file", "empty", "nul"],
)
def test_a_wrong_path_is_one_line(
    package: ModuleType, path: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(vx.UserError) as caught:
        package.load(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_of_the_system_is_one_line(package: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(vx.UserError, match="loop is not a run directory: .* symbolic links"):
        package.load(tmp_path / "loop")


def test_an_unknown_argument_is_an_error_of_python(model: Any) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'max_tokens'"):
        model.generate("a", max_tokens=3)
