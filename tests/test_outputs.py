"""Every output option of every command: files are replaced, links followed, streams written to.

The options come from the trees of click's commands, so a new one must be added here.
"""

import os
import tty
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

import train
from bridge.__main__ import main as bridge_main
from tests.support.commands import call, read_terminal
from tests.support.targets import make_bundle_files, make_metrics_files
from valyrian_jax.cli.main import main
from valyrian_jax.config import Config
from valyrian_jax.run_directory import save_config

PROGRAMS: dict[str, click.Command] = {
    "train": train.main,
    "valyrian_jax": main,
    "bridge": bridge_main,
}
# The beginning of a command, and of what it writes.
FILES: dict[str, tuple[list[str], bytes]] = {
    "valyrian_jax corpus --out": (["corpus", "--sentences", "2"], b""),
    "valyrian_jax tokenizer train --out": (
        ["tokenizer", "train", "text.txt", "--vocab-size", "258"],
        b'{\n "version"',
    ),
    "valyrian_jax plot --out": (["plot", "run"], b"\x89PNG"),
    "bridge export --out": (["export", "bundle"], b"PK"),
}
DIRECTORIES: dict[str, list[str]] = {
    "valyrian_jax tokenizer encode --out": [
        *("tokenizer", "encode", "bundle/tokenizer.json", "text.txt"),
        *("--workers", "1"),
    ],
    "bridge import --out": ["import", "bundle"],
    "train --out": ["--data.path", "text.txt", "--config", "tiny.toml"],
}
DIRECTORIES["valyrian_jax train --out"] = ["train", *DIRECTORIES["train --out"]]
INPUTS = {
    f"{command} {option}"
    for command in ("train", "valyrian_jax train")
    for option in ("--config", "--resume", "--init")
} | {
    "valyrian_jax plan --config",
    "bridge import --tokenizer",
    "bridge verify --program",
    "bridge verify --runner",
    "valyrian_jax eval --text",
    "valyrian_jax inspect --out",  # An output, but it needs a model of High Valyrian.
}
TINY = """
[model]
vocab_size = 258
n_positions = 4
n_embd = 8
n_layer = 1
n_head = 1
[train]
steps = 1
sample_every = 0
[wandb]
mode = "off"
"""


def list_path_options(command: click.Command, name: str) -> Iterator[str]:
    """Yield the options of a command and of its subcommands that take a path."""
    if isinstance(command, click.Group):
        for child_name, child in command.commands.items():
            yield from list_path_options(child, f"{name} {child_name}")
    for parameter in command.params:
        if isinstance(parameter, click.Option) and isinstance(
            parameter.type, click.Path | click.File
        ):
            yield f"{name} {max(parameter.opts, key=len)}"


def test_every_option_that_takes_a_path_is_known_here() -> None:
    options = {
        option for name, program in PROGRAMS.items() for option in list_path_options(program, name)
    }
    assert options == FILES.keys() | DIRECTORIES.keys() | INPUTS


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a text, a bundle, and a run that has losses."""
    monkeypatch.chdir(tmp_path)
    for directory, files in (("bundle", make_bundle_files()), ("run", make_metrics_files())):
        Path(directory).mkdir()
        for name, content in files.items():
            (Path(directory) / name).write_bytes(content)
    save_config(Path("run"), Config())
    Path("text.txt").write_text("abab abab.\n\n" * 40)
    Path("tiny.toml").write_text(TINY)
    return tmp_path


Run = Callable[[str, str | Path], tuple[int, bytes, str]]


@pytest.fixture
def run(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """A function that runs the command of an option, with an output."""
    assert home.exists()

    def run(option: str, output: str | Path) -> tuple[int, bytes, str]:
        arguments = FILES[option][0] if option in FILES else DIRECTORIES[option]
        program = PROGRAMS[option.split()[0]]
        status, out, err = call(
            program, capfdbinary, monkeypatch, *arguments, option.split()[-1], output
        )
        return status, out, err.decode()

    return run


def assert_written(option: str, content: bytes) -> None:
    assert len(content) > 20
    assert content.startswith(FILES[option][1])


def list_all(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


@pytest.mark.parametrize("option", FILES)
def test_a_file_is_replaced_and_a_link_is_followed(option: str, home: Path, run: Run) -> None:
    target, link, chain = home / "a" / "target", home / "out.png", home / "chain.png"
    target.parent.mkdir()
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to("a/target")
    chain.symlink_to(link)
    inode = target.stat().st_ino
    status, _, err = run(option, chain)
    assert status == 0, err
    assert chain.is_symlink()
    assert link.is_symlink()
    assert_written(option, target.read_bytes())
    assert target.stat().st_ino != inode  # replaced, not overwritten
    assert target.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in target.parent.iterdir()] == ["target"]
    assert not [name for name in list_all(home) if "partial" in name]


@contextmanager
def make_pipe() -> Iterator[tuple[Path, Future[bytes]]]:
    """A descriptor, and what is read from its other end."""
    reader, writer = os.pipe()
    with ThreadPoolExecutor(1) as pool, os.fdopen(reader, "rb") as file:
        content = pool.submit(file.read)
        try:
            yield Path(f"/dev/fd/{writer}"), content
        finally:
            os.close(writer)


@contextmanager
def make_fifo() -> Iterator[tuple[Path, Future[bytes]]]:
    fifo = Path("fifo")
    os.mkfifo(fifo)
    with ThreadPoolExecutor(1) as pool:
        yield fifo, pool.submit(fifo.read_bytes)
    assert fifo.is_fifo()


@contextmanager
def make_terminal() -> Iterator[tuple[Path, Future[bytes]]]:
    """A character device: a terminal, and what is read from its other end."""
    leader, follower = os.openpty()
    tty.setraw(follower)
    with ThreadPoolExecutor(1) as pool:
        content = pool.submit(read_terminal, leader)
        try:
            yield Path(os.ttyname(follower)), content
        finally:
            os.close(follower)
            content.result()
            os.close(leader)


STREAMS = {"descriptor": make_pipe, "FIFO": make_fifo, "terminal": make_terminal}


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("option", FILES)
def test_a_stream_is_written_to(option: str, stream: str, home: Path, run: Run) -> None:
    with STREAMS[stream]() as (path, content):
        before = list_all(home)
        status, _, err = run(option, path)
        assert status == 0, err
    assert_written(option, content.result())
    assert list_all(home) == before


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "link"])
def test_messages_leave_standard_output_to_the_file(name: str, home: Path, run: Run) -> None:
    (home / "link").symlink_to("/dev/fd/1")
    option = "valyrian_jax tokenizer train --out"
    status, out, err = run(option, name)
    assert status == 0
    assert_written(option, out)
    assert out.endswith(b"}\n")
    assert err == f"{name}: 258 tokens\n"
    assert (home / "link").is_symlink()


def test_a_descriptor_of_a_file_is_neither_replaced_nor_shortened(home: Path, run: Run) -> None:
    with (home / "log").open("ab") as log:
        log.write(b"old\n")
        log.flush()
        inode = (home / "log").stat().st_ino
        assert run("valyrian_jax corpus --out", f"/dev/fd/{log.fileno()}")[0] == 0
        log.write(b"new\n")
    content = (home / "log").read_bytes()
    assert content.startswith(b"old\n")
    assert content.endswith(b"new\n")
    assert len(content) > 30
    assert (home / "log").stat().st_ino == inode


@pytest.mark.parametrize("option", FILES)
@pytest.mark.parametrize("kind", ["directory", "missing", "closed"])
def test_what_no_file_can_replace_is_refused_at_once(
    option: str, kind: str, home: Path, run: Run
) -> None:
    (home / "directory.png").mkdir()
    name = {"directory": "directory.png", "missing": "none/out", "closed": "/dev/fd/999"}[kind]
    before = list_all(home)
    status, out, err = run(option, name)
    assert (status, out, err.count("\n")) == (2, b"", 1)
    assert err.startswith(f"error: cannot write {name}")
    assert list_all(home) == before


@pytest.mark.parametrize(
    ("option", "out", "second"),
    [
        ("valyrian_jax corpus --out", "a.txt", "a.source.json"),
        ("valyrian_jax plot --out", "a", "a.svg"),
    ],
)
def test_of_two_files_both_are_written_or_none(
    option: str, out: str, second: str, home: Path, run: Run
) -> None:
    (home / second).mkdir()
    before = list_all(home)
    status, _, err = run(option, out)
    assert status == 2
    assert err.startswith(f"error: cannot write {second}")
    assert list_all(home) == before


@pytest.mark.slow
@pytest.mark.parametrize("option", DIRECTORIES)
def test_a_directory_can_be_a_link_to_a_new_or_an_empty_one(
    option: str, home: Path, run: Run
) -> None:
    (home / "target").mkdir()
    for number, target in enumerate(("target", "new")):
        link = home / f"link{number}"
        link.symlink_to(target)
        status, _, err = run(option, link)
        assert status == 0, err
        assert link.is_symlink()
        assert any((home / target).iterdir())


@pytest.mark.parametrize("kind", ["a file", "a FIFO", "a character device", "standard output"])
@pytest.mark.parametrize("option", DIRECTORIES)
def test_a_directory_replaces_nothing_else(option: str, kind: str, home: Path, run: Run) -> None:
    (home / "a file").touch()
    os.mkfifo(home / "a FIFO")
    leader, follower = os.openpty()
    devices = {"a character device": os.ttyname(follower), "standard output": "-"}
    before = list_all(home)
    status, out, err = run(option, devices.get(kind, kind))
    os.close(leader)
    os.close(follower)
    assert (status, out, err.count("\n")) == (2, b"", 1)
    assert f"found {kind}" in err or "is a file" in err
    assert list_all(home) == before
