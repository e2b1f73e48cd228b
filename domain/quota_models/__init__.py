"""Quota models: whose turn it is, and what it comes to."""
