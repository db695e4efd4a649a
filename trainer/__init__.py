"""What happens inside a training process: features, input, towers, heads, losses, export."""
