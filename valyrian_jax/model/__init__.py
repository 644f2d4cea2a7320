"""The GPT: its layers, parameters, loss, compute options and sharding."""
