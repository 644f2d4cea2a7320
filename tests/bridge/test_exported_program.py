"""The torch.export programs accept any length and give the logits of the module."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from bridge import __main__ as main
from bridge.gpt import to_module
from tests.support.commands import call
from valyrian_jax.bundle.bundle import Bundle
from valyrian_jax.errors import UserError

pytestmark = pytest.mark.slow

ONLY_TORCH = """
import sys
for name in ("valyrian_jax", "bridge", "jax"): sys.modules[name] = None
from torch.export.pt2_archive._package import load_pt2
import torch
programs = load_pt2(sys.argv[1]).exported_programs
logits, past = programs["prefill"].module()(torch.tensor([[5, 6, 7, 8]]))
logits, past = programs["decode"].module()(torch.tensor([[9]]), past)
print(logits[0, :3].tolist())
"""


@pytest.fixture(scope="module")
def exported_program() -> ModuleType:
    """The module, imported late: it takes longer than the rest of PyTorch."""
    from bridge import exported_program

    return exported_program


@pytest.fixture(scope="module")
def archive(
    exported_program: ModuleType, directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "small.pt2"
    exported_program.export(directory, path)
    return path


def test_check_reports_the_largest_difference_of_a_logit(
    archive: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, _ = call(main.main, capsys, monkeypatch, "check", archive, "--json")
    record = json.loads(out)
    assert (status, record.keys(), record["file"]) == (0, {"file", "difference"}, str(archive))
    assert record["difference"] < 1e-4
    line = f"{archive}: logits differ by at most {record['difference']:.1e} from those at export\n"
    assert call(main.main, capsys, monkeypatch, "check", archive) == (0, line, "")


def test_programs_give_the_logits_of_the_module_at_every_length(
    archive: Path, small: Bundle
) -> None:
    from torch.export.pt2_archive._package import load_pt2

    gpt = to_module(small)
    programs = load_pt2(str(archive)).exported_programs
    prefill, decode = programs["prefill"].module(), programs["decode"].module()
    tokens = torch.randint(0, 300, (5, 24), generator=torch.Generator().manual_seed(0))
    expected = gpt(tokens)
    allowed = 1e-5 * float(expected.abs().max())
    for B, T in ((1, 1), (1, 2), (2, 7), (5, 23), (3, 24)):
        logits, past = prefill(tokens[:B, :T])
        assert (logits - expected[:B, T - 1]).abs().max() <= allowed
        for position in range(T, 24):
            logits, past = decode(tokens[:B, position : position + 1], past)
            assert (logits - expected[:B, position]).abs().max() <= allowed


def test_a_file_needs_only_torch(archive: Path, small: Bundle, tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-c", ONLY_TORCH, str(archive)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120, cwd=tmp_path
    )
    expected = to_module(small)(torch.tensor([[5, 6, 7, 8, 9]]))[0, -1, :3]
    assert (torch.tensor(json.loads(done.stdout)) - expected).abs().max() < 1e-4


def test_another_suffix_is_an_error(
    exported_program: ModuleType, directory: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"expects a name that ends in .pt2"):
        exported_program.export(directory, tmp_path / "model.pt")


def test_the_error_names_a_file_that_is_not_from_export(
    exported_program: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "text.pt2").write_text("no")
    for name in ("text.pt2", "none.pt2"):
        with pytest.raises(UserError, match=f"cannot read .*{name}: .*--format export` wrote"):
            exported_program.check(tmp_path / name)


def change_example(archive: Path, directory: Path, change: Callable[[Any], Any]) -> Path:
    """Write a copy of a file whose example is changed."""
    path = directory / "damaged.pt2"
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("example.json"):
                example = json.loads(content)
                change(example)
                content = json.dumps(example).encode()
            target.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda example: example.pop("logits"),
        lambda example: example.update(tokens=None),
        lambda example: example.update(tokens=[1, 2, 3, 4]),
        lambda example: example["logits"].pop(),
    ],
    ids=["missing", "null", "flat", "short"],
)
def test_an_example_of_another_shape_is_refused(
    exported_program: ModuleType, change: Callable[[Any], Any], archive: Path, tmp_path: Path
) -> None:
    path = change_example(archive, tmp_path, change)
    with pytest.raises(UserError, match=r"cannot read .*damaged\.pt2: .*--format export` wrote"):
        exported_program.check(path)


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_logit_that_is_not_finite_fails_the_check(
    exported_program: ModuleType, number: str, archive: Path, tmp_path: Path
) -> None:
    def change(example: dict[str, Any]) -> None:
        example["logits"][0][0][0] = float(number)

    path = change_example(archive, tmp_path, change)
    with pytest.raises(
        UserError, match=rf"computes other logits .* found {number}; export the bundle"
    ):
        exported_program.check(path)
