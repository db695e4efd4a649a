"""The TFX components of our own, one module each."""
