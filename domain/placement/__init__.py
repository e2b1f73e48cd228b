"""Placement: where work may go, which nodes and devices it gets there, and what one place is worth against another."""
