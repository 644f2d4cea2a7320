"""Figures: curves of runs, attention maps, the logit lens, heads and rules."""
