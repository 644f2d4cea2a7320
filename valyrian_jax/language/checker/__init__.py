"""The checker: parses a sentence and explains what is wrong with it."""
