"""Figures: the curves of runs and attention maps."""
