"""The settings and the words of the runs that tests train.

Runs with the same settings share one compiled program. A run that changes the number of steps, the
learning rate or a size compiles again.
"""

TINY = {
    "model.vocab_size": 280,
    "model.n_layer": 1,
    "optim.lr": 5e-3,
    "train.steps": 60,
    "wandb.mode": "off",
}

# For programs that run once: XLA on a CPU compiles them in half the time, and the results are equal
# up to rounding.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

WORDS = """the a red blue dragon wolf king queen sees hears loves eats sleeps and but in under city
river seventeen mountains quickly jumped beyond wooden harbours yesterday"""
