"""Measurements: figures with the ratio measured in the same run; never tests, for a machine's speed is nobody's promise."""
