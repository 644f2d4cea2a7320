"""A page to play with a model, and the server for it."""
