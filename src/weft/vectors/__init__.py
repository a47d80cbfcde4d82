"""Word vectors: from a corpus by every method, asked, evaluated, read and written. No torch but in neural.py: they start fast."""
