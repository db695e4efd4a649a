"""Experiments on streams; the results are in `docs/experiments.md`."""
