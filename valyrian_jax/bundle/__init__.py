"""The bundle: trained weights as a plain Hugging Face GPT-2 directory, and text generation."""
