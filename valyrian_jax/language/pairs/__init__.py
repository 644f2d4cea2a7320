"""Minimal pairs: a right sentence, and the same with one form that breaks one rule."""
