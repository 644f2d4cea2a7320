"""Models from elsewhere become bundles."""
