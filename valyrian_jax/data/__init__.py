"""Data: reading, splitting and encoding text, and the batches and windows of a run."""
