"""Inputs by URL give what the same local files give, or an error in one line."""

import gzip
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests.support.commands import assert_one_line_error, call
from tests.support.encoding import to_parquet
from tests.support.object_store import ENVIRONMENT, ObjectStore, serve_objects
from valyrian_jax.cli.main import main
from valyrian_jax.config import load_config
from valyrian_jax.data.dataset import open_dataset
from valyrian_jax.data.reading.text_loader import load_text
from valyrian_jax.errors import UserError
from valyrian_jax.files import expand_urls, localize, open_url, remote
from valyrian_jax.run_directory import load_run_bundle
from valyrian_jax.tokenizer import Tokenizer, train_bpe

DOCUMENTS = [f"document {i}: " + "the quick brown fox " * 60 for i in range(60)]
LINES = "".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS).encode()


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with serve_objects() as store:
        yield store


@pytest.fixture
def store(
    server: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[ObjectStore]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv(remote.CACHE_VARIABLE, str(tmp_path / "cache"))
    server.faults.clear()
    forget()
    yield server
    forget()


def forget() -> None:
    """Forget all objects, as a new process does."""
    remote._first_version.cache_clear()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    train_bpe(DOCUMENTS, 280).save(tmp_path / "tokenizer.json")
    return tmp_path / "tokenizer.json"


def read_shards(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.glob("shard-*.bin")}


def test_shards_of_objects_are_those_of_files(
    store: ObjectStore,
    vocabulary: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contents = {
        "a.jsonl": LINES,
        "b.jsonl.gz": gzip.compress(LINES),
        "c.parquet": to_parquet({"text": DOCUMENTS}),
        "d.txt": "\n\n".join(DOCUMENTS).encode(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        store.put(f"encode/{name}", content)
    tokenizer = store.put("tokenizer.json", vocabulary.read_bytes())
    local = [str(tmp_path / name) for name in contents]
    encode, options = ("tokenizer", "encode"), ("--shard-tokens", "5000", "--workers", "1")
    status, _, err = call(
        main, capsys, monkeypatch, *encode, vocabulary, *local, "--out", tmp_path / "1", *options
    )
    assert status == 0, err
    urls = ("s3://texts/encode/*",)
    status, _, err = call(
        main, capsys, monkeypatch, *encode, tokenizer, *urls, "--out", tmp_path / "2", *options
    )
    assert status == 0, err
    assert read_shards(tmp_path / "2") == read_shards(tmp_path / "1")
    assert len(read_shards(tmp_path / "1")) > 2


def test_a_run_reads_shards_and_tokenizer_by_url(
    store: ObjectStore,
    vocabulary: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = tmp_path / "a.jsonl"
    text.write_bytes(LINES)
    shards = tmp_path / "shards"
    arguments = ("tokenizer", "encode", vocabulary, text, "--out", shards, "--workers", "1")
    assert call(main, capsys, monkeypatch, *arguments)[0] == 0
    for file in shards.iterdir():
        store.put(f"shards/{file.name}", file.read_bytes())
    settings = {"model.vocab_size": 280, "model.n_positions": 16, "data.held_out": 0.1}
    local = load_config(None, settings | {"data.path": str(shards)})
    url = load_config(None, settings | {"data.path": "s3://texts/shards"})
    datasets = [open_dataset(config, None, tmp_path) for config in (local, url)]
    assert datasets[0].fingerprint == datasets[1].fingerprint
    assert (datasets[0].batches(3, 2) == datasets[1].batches(3, 2)).all()


def test_a_text_and_a_bundle_are_read_by_url(store: ObjectStore) -> None:
    url = store.put("one.jsonl", LINES)
    assert load_text(url).documents == DOCUMENTS
    bundle = Path("tests/artifacts/0.1.0/run/bundle")
    for file in bundle.iterdir():
        store.put(f"bundle/{file.name}", file.read_bytes())
    loaded, expected = load_run_bundle(localize("s3://texts/bundle")), load_run_bundle(bundle)
    assert loaded.manifest == expected.manifest
    assert loaded.tokenizer.sha256 == expected.tokenizer.sha256


def test_a_copy_is_made_once_and_again_after_a_change(store: ObjectStore, vocabulary: Path) -> None:
    url = store.put("again.json", vocabulary.read_bytes())
    before = store.answered
    first = localize(url)
    assert store.answered == before + 1
    assert localize(url) == first
    assert store.answered == before + 1
    other = train_bpe(["other words"], 258)
    other.save(vocabulary)
    store.put("again.json", vocabulary.read_bytes())
    forget()
    assert Tokenizer.load(url).sha256 == other.sha256
    assert not first.exists()  # The older copy is removed.


@pytest.mark.parametrize("fault", ["500", "cut"])
def test_a_failed_answer_is_asked_for_again(store: ObjectStore, fault: str) -> None:
    url = store.put(f"{fault}.bin", content := bytes(range(256)) * 1000)
    store.faults[:] = [fault, fault]  # type: ignore[list-item]
    with open_url(url) as file:
        assert file.read() == content
    assert not store.faults


def test_an_object_that_changes_between_two_reads_is_refused(store: ObjectStore) -> None:
    url = store.put("changing.txt", b"first words")
    with open_url(url) as file:
        file.read()
    store.put("changing.txt", b"other words")
    with pytest.raises(UserError, match="changing.txt has changed while it was in use"):
        load_text(url)


def test_an_object_that_changes_while_it_is_read_is_refused(store: ObjectStore) -> None:
    url = store.put("long.txt", b"a" * (30 << 20))

    def read_and_change() -> None:
        with open_url(url) as file:
            file.read(1 << 20)
            store.put("long.txt", b"b" * (30 << 20))
            file.read()

    with pytest.raises(UserError, match="long.txt has changed while it was read"):
        read_and_change()


def test_what_is_missing_is_one_line(
    store: ObjectStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("there.txt", b"words")
    arguments = ("tokenizer", "encode", "s3://texts/none.json", "README.md")
    status, _, err = call(main, capsys, monkeypatch, *arguments)
    assert status == 2
    assert_one_line_error(err, "cannot read s3://texts/none.json: ")
    with pytest.raises(UserError, match="no object matches s3://texts/none-"):
        expand_urls("s3://texts/none-*")


def test_missing_credentials_are_one_line(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    forget()
    with pytest.raises(UserError, match="cannot read s3://texts/a: .*credentials") as caught:
        localize("s3://texts/a")
    assert "\n" not in str(caught.value)
