"""What distillation is worth, over several seeds."""
