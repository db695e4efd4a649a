"""Measurements that are too slow for tests: quality with intervals, speed with ratios."""
