"""The bundle: the trained weights as a plain Hugging Face GPT-2 directory, and text around any generator of tokens."""
