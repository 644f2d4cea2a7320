"""JSON files of the wrong shape are named in JSON's words."""

from pathlib import Path

import pytest

from valyrian_jax.errors import UserError
from valyrian_jax.files import read_json_object


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("null", "null"),
        ("[1]", "an array"),
        ('"a"', "a string"),
        ("true", "a boolean"),
        ("1", "a number"),
        ("1.5e3", "a number"),
    ],
)
def test_a_value_that_is_no_object_is_named(tmp_path: Path, content: str, name: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(UserError, match=f"a.json holds {name}, expected a JSON object"):
        read_json_object(path)
