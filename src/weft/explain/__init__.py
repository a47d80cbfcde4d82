"""What is in a model, seen: a map of words."""
