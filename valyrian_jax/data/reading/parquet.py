"""Rows of Parquet as documents; needs `pyarrow`, which is optional."""

import contextlib
from collections.abc import Iterator
from typing import Any

from valyrian_jax.data.reading.text_key import check_text_key
from valyrian_jax.data.reading.text_reader import TextStream
from valyrian_jax.errors import UserError

_BATCH_BYTES = 1 << 24
_MAX_BATCH_ROWS = 1 << 13
_TEXT_TYPES = ("string", "large_string", "string_view", "dictionary<values=string")


def read_rows(stream: TextStream, text_key: str) -> Iterator[bytes]:
    """Yield the text of every row in a column of Parquet, in UTF-8; null becomes an empty text."""
    with _open_file(stream, text_key) as file:
        for batch in file.iter_batches(_choose_batch_rows(file.metadata), columns=[text_key]):
            for value in batch.column(0):
                yield (value.as_py() or "").encode("utf-8", "surrogatepass")


def check_column(stream: TextStream, text_key: str) -> None:
    """Check that a file is readable Parquet with a column of text."""
    with _open_file(stream, text_key):
        pass


@contextlib.contextmanager
def _open_file(stream: TextStream, text_key: str) -> Iterator[Any]:
    """Open a file that has a column of text; the body only reads."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(
            f"{stream.name} is Parquet, which needs pyarrow: pip install 'valyrian-gpt[parquet]'"
        ) from error
    if not stream.file.seekable():
        raise UserError(
            f"{stream.name} is Parquet in a pipe or compressed; expected a file, because its index "
            "is at its end: name the .parquet file itself"
        )
    try:
        # Small buffers, because by default a whole column of a row group is read at once.
        file = parquet.ParquetFile(stream.file, pre_buffer=False, buffer_size=1 << 20)
        columns = {field.name: str(field.type) for field in file.schema_arrow}
        is_text = {column: kind.startswith(_TEXT_TYPES) for column, kind in columns.items()}
        check_text_key(stream.name, text_key, is_text)
        yield file
    except (pyarrow.ArrowException, UnicodeError) as error:
        raise UserError(
            f"cannot read {stream.name}: {error}; expected undamaged Parquet: copy it again"
        ) from error


def _choose_batch_rows(metadata: Any) -> int:
    """Return how many rows hold about 16 MB."""
    sizes = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
    row_bytes = max(sum(sizes) // max(metadata.num_rows, 1), 1)
    return max(1, min(_MAX_BATCH_ROWS, _BATCH_BYTES // row_bytes))
