"""Command lines: one file for each group of commands, the options they share, and tables."""
