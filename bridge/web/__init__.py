"""The pages that show how a model generates, and the server of one of them."""
