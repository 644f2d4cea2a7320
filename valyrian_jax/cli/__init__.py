"""Command lines: one file for each group of commands, their shared options, and tables."""
