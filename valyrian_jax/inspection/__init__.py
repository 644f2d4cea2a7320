"""What happens inside a model: its predictions after every block, and what each head is for."""
