"""GGUF, the file format of llama.cpp: a model with its tokenizer in one file."""
