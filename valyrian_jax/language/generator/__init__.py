"""The generator: draws sentences from the grammar and computes their exact probability."""
