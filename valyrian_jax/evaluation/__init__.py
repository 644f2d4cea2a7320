"""How good a model is: held-out loss, and the texts it writes."""
