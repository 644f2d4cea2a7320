"""The settings that most trained runs of the tests share, so that a program one of them compiled serves the others.

Steps, rate and sizes are part of the compiled step: a run that changes one of them compiles anew.
"""

TINY = {"model.vocab_size": 280, "model.n_layer": 1, "optim.lr": 5e-3, "train.steps": 60, "wandb.mode": "off"}
