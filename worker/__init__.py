"""Wiring: the only folder that sees everything."""
