"""The settings that most trained runs of the tests share, so that a program one of them compiled serves the others.

Steps, rate and sizes are part of the compiled step: a run that changes one of them compiles anew.
"""

TINY = {
    "model.vocab_size": 280,
    "model.n_layer": 1,
    "optim.lr": 5e-3,
    "train.steps": 60,
    "wandb.mode": "off",
}

# For programs that run once: XLA on a CPU compiles them in half the time and computes the same to rounding.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
