"""A small GPT for High Valyrian, from scratch, in JAX."""

__version__ = "0.1.0"
