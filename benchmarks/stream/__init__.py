"""What a stream costs, and what it survives."""
