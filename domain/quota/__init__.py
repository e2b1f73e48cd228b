"""Quota: who may use how much of what, and what has been used."""
