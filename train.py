"""Train a model: arguments -> configuration -> valyrian_jax.training.run.train."""

import copy

from valyrian_jax.cli.entry_point import run_command
from valyrian_jax.cli.train_command import train

main = copy.copy(train)  # the command `train` of `python -m valyrian_jax`, with its own example
main.epilog = "Example: python train.py --config tiny --optim.lr 1e-3"

if __name__ == "__main__":
    run_command(main)
