"""Evaluation of a model: its held-out loss and the quality of its texts."""
