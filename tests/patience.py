"""How long tests wait for what has to come."""

PATIENCE_SECONDS = 120.0
"""Whoever waits so long in vain has found a fault, also on a machine that has much else to do."""
