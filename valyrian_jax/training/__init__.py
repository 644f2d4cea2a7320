"""A training run, from configuration to bundle."""
