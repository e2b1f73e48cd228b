"""The scheduler: pure functions over frozen values, with no input or output, no clock and no randomness."""
