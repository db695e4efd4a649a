"""Knowledge distillation for ranking models, as a TFX pipeline."""
