"""Conformance: what other schedulers' own tests expect, asked of Corral."""
