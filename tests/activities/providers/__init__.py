"""Tests of the providers: one contract for all of them, and what is particular to each."""
