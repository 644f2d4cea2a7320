"""Importers that turn models of other projects into bundles."""
