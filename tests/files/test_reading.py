"""Only regular files of limited size are read, and nothing waits for a FIFO or a device."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.fuzzing import limit_memory, limit_time
from valyrian_jax.errors import UserError
from valyrian_jax.files import (
    append_regular,
    check_regular,
    name_in_utf8,
    read_bytes,
    read_input,
    read_json_object,
    read_lines,
    read_text,
    sha256_of_file,
)

READERS: list[Callable[[Path], object]] = [
    read_text,
    read_bytes,
    read_json_object,
    sha256_of_file,
    check_regular,
    append_regular,
    lambda path: list(read_lines(path)),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", ["a FIFO", "a character device", "a directory"])
def test_what_is_no_regular_file_is_refused_at_once(
    kind: str, read: Callable[[Path], object], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "a FIFO")
    (tmp_path / "a directory").mkdir()
    (tmp_path / "a character device").symlink_to("/dev/zero")
    link = tmp_path / "link"
    link.symlink_to(kind)
    for path in (tmp_path / kind, link):
        with limit_time(), limit_memory(), pytest.raises(UserError, match=f"{path}: .*{kind}"):
            read(path)


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / "link").symlink_to("file")
    assert read_text(tmp_path / "link") == "content"
    assert sha256_of_file(tmp_path / "link") == sha256_of_file(tmp_path / "file")


def test_the_size_is_looked_at_before_the_content(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10**11)
    with limit_time(), limit_memory():
        with pytest.raises(UserError, match="more than 67,108,864 bytes"):
            read_text(tmp_path / "sparse")
        with pytest.raises(UserError, match="a line of more than 1,000 bytes"):
            list(read_lines(tmp_path / "sparse", 1000))


def test_a_limit_that_no_file_reaches_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    with limit_memory():
        assert read_bytes(tmp_path / "file", max_bytes=10**30) == b"content"


def test_lines_are_read_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a\n\nb\xff\r\nlast")
    assert list(read_lines(path)) == [b"a\n", b"\n", b"b\xff\r\n", b"last"]
    assert list(read_lines(path, 4)) == [b"a\n", b"\n", b"b\xff\r\n", b"last"]
    with path.open("r+b") as file:  # a long file whose first lines are short
        file.truncate(10**10)
    with limit_memory():
        assert next(read_lines(path)) == b"a\n"


def test_a_text_that_a_user_names_can_come_from_a_pipe() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"[model]")
    os.close(writer)
    assert read_input(f"/dev/fd/{reader}", "the configuration", 100) == "[model]"
    os.close(reader)


def test_a_library_gets_a_name_in_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    path.write_text("content")
    with name_in_utf8(path) as name:
        name.encode("utf-8")
        assert Path(name).read_text() == "content"
    with name_in_utf8(tmp_path) as name:
        assert name == str(tmp_path)
