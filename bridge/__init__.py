"""The PyTorch side: a module equal to a bundle, the proof of it, and files that run anywhere."""
