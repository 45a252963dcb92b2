"""Training sets: made from queries and teachers, read back, inspected."""
