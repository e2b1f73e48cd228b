"""Explanations: why work waits or is refused, for the person who asked for it."""
