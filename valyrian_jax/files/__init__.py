"""Files: one way to read what we read, one way to write what we write; hashes and locks."""

from valyrian_jax.files.lookup import find_config, find_input
from valyrian_jax.files.memory_limit import memory_bytes
from valyrian_jax.files.reading import (
    MAX_BYTES,
    STANDARD_INPUT,
    check_regular,
    decode_utf8,
    make_utf8_error,
    name_in_utf8,
    name_json_type,
    open_regular,
    parse_json,
    read_bytes,
    read_input,
    read_json_object,
    read_lines,
    read_text,
    sha256_of_file,
)
from valyrian_jax.files.remote import (
    expand_urls,
    is_remote_directory,
    is_url,
    localize,
    measure_url,
    open_url,
    refuse_url,
)
from valyrian_jax.files.writing import (
    append_regular,
    check_output,
    check_output_directory,
    is_standard_output,
    is_stream,
    is_temporary,
    lock_directory,
    make_temporary_directory,
    name_errors,
    remove_temporaries,
    replace_file,
    sync_to_disk,
    write_atomically,
    write_json,
    write_output,
)
