"""Training runs in the kernel of a notebook, and shows its progress there."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.tiny import TINY

SETUP = "import valyrian_jax as vx"
# A plain script cannot interrupt itself between two steps, so the bar does.
INTERRUPT = """
import os, signal
from valyrian_jax.training import run

describe = run.summarize_steps
def interrupt(*arguments):
    run.summarize_steps = describe
    os.kill(os.getpid(), signal.SIGINT)
    return describe(*arguments)
run.summarize_steps = interrupt
"""


def execute(directory: Path, *cells: str) -> list[list[Any]]:
    """Run cells in a new kernel; return the outputs of each."""
    notebook = nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, cells)])
    resources = {"metadata": {"path": str(directory)}}
    client = NotebookClient(notebook, timeout=120, allow_errors=True, resources=resources)
    client.execute()
    return [cell.outputs for cell in notebook.cells]


def join_text(outputs: list[Any]) -> str:
    return "".join(output.get("text", "") for output in outputs)


@pytest.fixture(scope="module")
def outputs(small_text: Path, tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    settings = TINY | {"data.path": str(small_text)}
    stop = f"vx.train('configs/tiny.toml', out='mine', **{settings})"
    resume = "result = vx.train(resume='mine')"
    use = "print(result.steps, result.load().generate('the', seed=7, max_new_tokens=5))"
    cells = SETUP, INTERRUPT, stop, resume, use
    return execute(tmp_path_factory.mktemp("notebook"), *cells)


@pytest.mark.slow
def test_an_interrupt_saves_the_run(outputs: list[list[Any]]) -> None:
    error = outputs[2][-1]
    assert error.ename == "StoppedError"
    assert error.evalue.startswith("stopped at step 10 (SIGINT); saved; resume with:")


def test_a_run_prints_lines_and_one_bar(outputs: list[list[Any]]) -> None:
    (bar,) = [output for output in outputs[3] if output.output_type == "display_data"]
    assert "60/60" in bar.data["text/plain"]
    assert "60/60" in bar.data["text/html"]
    text = join_text(outputs[3])
    assert text.startswith("run       mine\n")
    assert "\nstep     60  train " in text
    assert "\x1b" not in text
    assert {output.output_type for output in outputs[3]} == {"display_data", "stream"}


def test_the_result_loads(outputs: list[list[Any]]) -> None:
    assert join_text(outputs[4]).startswith("60 the")
