"""Run the commands: python -m valyrian_jax COMMAND."""

from typing import NoReturn

from valyrian_jax.cli.entry_point import run_command
from valyrian_jax.cli.main import main


def run() -> NoReturn:
    """Run the program; the console script `valyrian` calls this."""
    run_command(main)


if __name__ == "__main__":
    run()
