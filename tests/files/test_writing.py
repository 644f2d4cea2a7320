"""Files are replaced atomically, under temporary names that belong to nobody else."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.fuzzing import limit_time
from valyrian_jax.errors import UserError
from valyrian_jax.files import (
    check_output,
    is_stream,
    is_temporary,
    lock_directory,
    remove_temporaries,
    sync_to_disk,
    write_atomically,
    write_output,
)


def list_names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize(
    "name", ["a", "a.partial", ".a", "x" * 255, "ē" * 100, "caf\udce9", "a\nb"]
)
def test_any_name_can_be_written_and_nothing_else_changes(name: str, tmp_path: Path) -> None:
    others = {"a.partial", "a.partial.pt", ".a.partial", f".a.{'0' * 16}.partial"} - {name}
    for other in others:
        (tmp_path / other).write_text("mine")
    write_atomically(tmp_path / name, "old")
    write_atomically(tmp_path / name, "new")
    assert (tmp_path / name).read_text() == "new"
    assert {other: (tmp_path / other).read_text() for other in others} == dict.fromkeys(
        others, "mine"
    )
    assert set(list_names(tmp_path)) == {name, *others}


def test_writers_of_one_name_do_not_disturb_each_other(tmp_path: Path) -> None:
    def write(number: int) -> None:
        for _ in range(20):
            write_atomically(tmp_path / "file", f"{number}" * 1000)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    content = (tmp_path / "file").read_text()
    assert content == content[0] * 1000
    assert list_names(tmp_path) == ["file"]


def fail_to_write(path: Path, error: BaseException) -> None:
    """Write half of an output; then an error comes."""
    with write_output(path) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize("error", [OSError(errno.EIO, "x", "other"), ValueError(), SystemExit()])
def test_after_an_error_the_old_file_is_all_there_is(error: BaseException, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(type(error)):
        fail_to_write(tmp_path / "file", error)
    assert list_names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_full_disk_names_the_output_and_not_the_temporary_file(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")  # as `write` raises it
    with pytest.raises(UserError, match=f"cannot write {tmp_path}/file: No space left on device"):
        fail_to_write(tmp_path / "file", full)
    assert list_names(tmp_path) == []


def test_a_check_of_an_output_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    check_output(tmp_path / "file")
    check_output(tmp_path / "new")
    assert list_names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"
    with pytest.raises(UserError, match=f"cannot write {tmp_path}/none/file: No such file"):
        check_output(tmp_path / "none" / "file")


def test_a_link_is_followed_also_to_a_new_file_and_through_directories(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "way").symlink_to("disk")
    (tmp_path / "link").symlink_to("way/../disk/new")
    write_atomically(tmp_path / "link", "content")
    assert (tmp_path / "disk" / "new").read_text() == "content"
    assert (tmp_path / "link").is_symlink()
    assert list_names(tmp_path) == ["disk", "link", "way"]


def test_a_link_to_itself_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="Too many levels"):
        write_atomically(tmp_path / "loop", "content")
    with (
        pytest.raises(UserError, match="cannot write .*loop: Too many levels"),
        write_output(tmp_path / "loop"),
    ):
        pass
    assert (tmp_path / "loop").is_symlink()


def test_a_file_of_a_run_never_waits_for_a_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UserError, match="it is a FIFO, expected a regular file"):
        write_atomically(tmp_path / "fifo", "content")
    assert (tmp_path / "fifo").is_fifo()


def test_a_file_that_only_looks_like_a_descriptor_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "dev" / "fd" / "1"
    path.parent.mkdir(parents=True)
    assert not is_stream(path)
    with write_output(path) as temporary:
        temporary.write_text("content")
    assert path.read_text() == "content"


def test_leftovers_of_one_name_are_removed(tmp_path: Path) -> None:
    leftovers = [f".{name}.{'0' * 16}.partial" for name in ("file", "other", "file.txt")]
    for name in [*leftovers, "file", ".file.partial", ".file.0.partial"]:
        (tmp_path / name).touch()
    (tmp_path / f".file.{'1' * 16}.partial").mkdir()
    assert all(map(is_temporary, leftovers))
    remove_temporaries(tmp_path / "file", tmp_path / "none" / "file")
    assert list_names(tmp_path) == sorted(
        [leftovers[1], leftovers[2], "file", ".file.partial", ".file.0.partial"]
    )


def test_a_directory_that_is_a_link_is_locked(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("new")
    with lock_directory(tmp_path / "link"), pytest.raises(UserError, match="another process"):
        lock_directory(tmp_path / "new")
    assert (tmp_path / "link").is_symlink()


def test_syncing_a_fifo_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with limit_time():
        sync_to_disk(tmp_path / "fifo")
