"""Disruption: who may be disturbed, by which means, and what that costs."""
