"""Processes connect to one another, or say why they cannot."""

import socket
from typing import Any

import jax
import pytest

from tests.support.forked import find_free_address
from valyrian_jax.errors import UserError
from valyrian_jax.training import distributed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("127.0.0.1:1", 2, None), "go together"),
        ((None, 2, 0), "go together"),
        (("127.0.0.1:1", 2, 2), "--process 2: expected 0 to 1"),
        (("127.0.0.1", 2, 0), "expected HOST:PORT"),
        (("127.0.0.1:99999", 2, 0), "expected HOST:PORT"),
        (("127.0.0.1:0", 2, 0), "expected HOST:PORT"),
    ],
)
def test_inconsistent_arguments_are_refused(arguments: tuple[Any, Any, Any], message: str) -> None:
    with pytest.raises(UserError, match=message), distributed.initialize(*arguments):
        pass


def test_an_occupied_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        expected = f"cannot listen at port {port} of --coordinator: .*; choose another port"
        address = f"127.0.0.1:{port}"
        with pytest.raises(UserError, match=expected), distributed.initialize(address, 2, 0):
            pass


def test_an_address_without_a_process_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "CONNECT_TIMEOUT", 0)
    address = find_free_address()
    expected = f"no answer from --coordinator {address} .*; start the process with --process 0"
    with pytest.raises(UserError, match=expected), distributed.initialize(address, 2, 1):
        pass


@pytest.mark.parametrize("count", ["1", "", "two"])
def test_one_process_of_slurm_or_open_mpi_runs_alone(
    count: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", count)
    with distributed.initialize():
        assert jax.process_count() == 1
