"""Names of texts."""

from pathlib import Path

import pytest


@pytest.fixture(params=["text", "a.jsonl.gz", "a.parquet", "-x.zst"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file whose name tells nothing about its format, or the wrong one."""
    return tmp_path / request.param
