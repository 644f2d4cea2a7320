"""The GPT: its layers, parameters, loss, ways to compute it, and how it is sharded."""
