"""The group of all commands, which imports only what a command line needs."""

import subprocess
import sys

import click
import pytest

from valyrian_jax.cli.main import main


@pytest.mark.parametrize("name", list(main.commands))
def test_the_list_of_commands_has_the_first_sentence_of_their_help(name: str) -> None:
    with click.Context(main, terminal_width=200, max_content_width=200) as context:
        text = main.get_help(context)
    summary = (main.commands[name].help or "").split("\n\n")[0]
    assert f"  {name:<11}{summary}\n" in text


def test_the_help_imports_no_large_package() -> None:
    code = """
import sys
from valyrian_jax.cli.main import main
main(["--help"], standalone_mode=False)
print([name for name in ("jax", "numpy", "pydantic", "rich") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")
