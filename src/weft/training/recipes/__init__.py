"""Ways to train that are more than a loss and a schedule."""
