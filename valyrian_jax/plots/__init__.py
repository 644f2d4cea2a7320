"""Pictures: curves of runs, attention maps."""
