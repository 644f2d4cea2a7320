"""A local page that shows how a model generates, and its server."""
