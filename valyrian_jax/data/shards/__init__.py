"""Shards: encoded text on disk, for texts that do not fit into memory."""
