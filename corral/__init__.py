"""Corral's published language, client and command line: the only package that services install."""
