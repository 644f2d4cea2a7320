"""What URLs do without a store: test_remote.py, which needs the extra [bench], has one."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import assert_one_line_error, call
from valyrian_jax.cli.main import main
from valyrian_jax.errors import UserError
from valyrian_jax.files import localize


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--out", "s3://texts/run"),
        ("tokenizer", "train", "README.md", "--out", "s3://texts/t.json"),
    ],
)
def test_an_output_by_url_is_refused(
    arguments: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status, _, err = call(main, capsys, monkeypatch, *arguments)
    assert status == 2
    assert_one_line_error(err, "expected a path on this machine, found a URL")


def test_local_paths_import_no_fsspec(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    code = (
        "import sys; from valyrian_jax.data.reading.text_loader import load_text; "
        f"load_text({str(tmp_path / 'a.txt')!r}); assert 'fsspec' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_fsspec_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UserError, match=r"needs fsspec: pip install 'valyrian-gpt\[remote\]'"):
        localize("memory://a")
