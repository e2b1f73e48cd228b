"""Preemption: how running work makes room for work that waits, at the least cost."""
