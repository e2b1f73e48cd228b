"""Wiring: settings, real adapters and processes; the only package that sees everything."""
