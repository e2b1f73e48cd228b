"""Worlds: the pool as decisions change it, and what work asks of it."""
