"""The parts of the store: each the transactions about one subject."""
