"""The server reads what each head does from the file of `inspect --json`."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bridge import __main__ as main
from bridge.web.heat_map import HEADS_NAME, read_heat_map
from tests.support.commands import call
from tests.support.heads import RULES, make_heads_file, make_inspection
from tests.support.serving import request, start_server
from valyrian_jax.bundle.bundle import Bundle, load_bundle, save_bundle
from valyrian_jax.config import Config
from valyrian_jax.errors import UserError
from valyrian_jax.run_directory import save_config


@pytest.fixture
def bundle(small: Bundle, tmp_path: Path) -> Bundle:
    """A bundle in a run directory."""
    save_bundle(small, tmp_path / "bundle")
    save_config(tmp_path, Config())
    return load_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("place", [".", "bundle"])
def test_the_server_sends_what_inspect_has_computed(
    bundle: Bundle, tmp_path: Path, place: str
) -> None:
    (tmp_path / place / HEADS_NAME).write_bytes(make_heads_file(bundle))
    with start_server(tmp_path) as server:
        status, body = request(server.port, "GET", "/heads")
    assert status == 200
    inspection = make_inspection(bundle)
    changes = inspection.ablated - inspection.accuracy[:, None]
    assert json.loads(body) == {
        "rules": RULES,
        "components": ["0.0", "0.1", "0.2", "1.0", "1.1", "1.2", "MLP 0", "MLP 1"],
        "accuracy": inspection.accuracy.tolist(),
        "changes": changes.tolist(),
        "nats_lost": inspection.margin_falls.tolist(),
    }


def test_the_heads_of_other_weights_are_not_shown(
    bundle: Bundle, make: Callable[..., Bundle], tmp_path: Path
) -> None:
    file = tmp_path / HEADS_NAME
    file.write_bytes(make_heads_file(bundle))
    assert read_heat_map([tmp_path], bundle)
    save_bundle(make(n_layer=3), tmp_path / "bundle")
    assert read_heat_map([tmp_path], load_bundle(tmp_path / "bundle")) is None


def test_a_directory_of_another_program_has_heads_too(bundle: Bundle, tmp_path: Path) -> None:
    foreign = replace(bundle, manifest={})
    (tmp_path / HEADS_NAME).write_bytes(make_heads_file(foreign))
    assert read_heat_map([tmp_path], foreign)


def test_examples_of_a_rule_may_follow(bundle: Bundle, tmp_path: Path) -> None:
    example = b'{"component": "0.1", "pair": {}, "weights": [0.5, 0.5]}\n'
    (tmp_path / HEADS_NAME).write_bytes(make_heads_file(bundle) + example)
    assert read_heat_map([tmp_path], bundle)


def change(number: int, old: str, new: str) -> Callable[[list[str]], list[str]]:
    """Return a function that replaces a text in a line; the first line is number 1."""

    def edit(lines: list[str]) -> list[str]:
        line = lines[number - 1]
        assert old in line
        return [*lines[: number - 1], line.replace(old, new, 1), *lines[number:]]

    return edit


DAMAGES: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "empty": (lambda lines: [], "line 1 is missing"),
    "cut": (lambda lines: lines[:5], "line 6 is missing"),
    "cut inside a line": (lambda lines: [*lines[:4], lines[4][:60]], "line 5: Invalid JSON"),
    "not an object": (lambda lines: ["[]", *lines[1:]], "line 1: "),
    "no hash": (change(1, "weights_sha256", "weights"), "line 1: weights_sha256: Field required"),
    "a share above 1": (
        change(2, '"tense": 0.', '"tense": 7.'),
        "line 2: accuracy.tense: Input should be less than or equal to 1",
    ),
    "a string": (change(3, '"order": 0', '"order": "0"'), "line 3: "),
    "not a number": (
        change(2, '"nats_lost": {"tense": ', '"nats_lost": {"tense": NaN, "x": '),
        "line 2: nats_lost.tense: Input should be a finite number",
    ),
    "a long name": (change(1, "tense", "t" * 41), "line 1: accuracy."),
    "another rule": (
        change(4, '"tense"', '"negation"'),
        "expected the rules of line 1 in line 4, found others",
    ),
    "another order": (
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
        "expected 0.0 in line 2, found 0.1",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_refused(bundle: Bundle, tmp_path: Path, name: str) -> None:
    damage, words = DAMAGES[name]
    lines = make_heads_file(bundle).decode().splitlines()
    (tmp_path / HEADS_NAME).write_text("\n".join(damage(lines)))
    with pytest.raises(UserError) as error_info:
        read_heat_map([tmp_path], bundle)
    message = str(error_info.value)
    assert message.startswith(f"{tmp_path / HEADS_NAME} is damaged: ")
    assert words in message
    assert len(message) < 500


def test_the_command_refuses_a_damaged_file_in_one_line(
    bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / HEADS_NAME).write_text("{bad")
    status, out, err = call(main.main, capsys, monkeypatch, "serve", tmp_path)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "make it again with `python -m valyrian_jax inspect RUN --json > RUN/heads.jsonl`" in err


def test_only_a_regular_file_of_limited_size_is_read(bundle: Bundle, tmp_path: Path) -> None:
    file = tmp_path / HEADS_NAME
    os.mkfifo(file)
    with pytest.raises(UserError, match="expected a regular file, found a FIFO"):
        read_heat_map([tmp_path], bundle)
    file.unlink()
    with file.open("wb") as sparse:
        sparse.truncate(1 << 24)
    with pytest.raises(UserError, match="has more than 8,388,608 bytes"):
        read_heat_map([tmp_path], bundle)
