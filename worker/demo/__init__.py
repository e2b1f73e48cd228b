"""The demonstration: submit a scenario to a pool of its own, watch it, check it, and report on it."""
