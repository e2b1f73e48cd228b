"""Advice: what would let work start, the pool as it would be then, and whether work may keep what it has."""
