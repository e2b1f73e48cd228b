"""Improvement: what is better once all turns were taken, and how far the best is."""
