"""From a bundle to PyTorch: an equal module, the proof of that, and one TorchScript file that runs anywhere."""
