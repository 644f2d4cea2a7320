"""Run the commands: python -m valyrian_jax COMMAND."""

from valyrian_jax.cli.entry_point import run_command
from valyrian_jax.cli.main import main

if __name__ == "__main__":
    run_command(main)
