"""What happens inside a model: its predictions after every block."""
