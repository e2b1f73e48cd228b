"""Retryable steps: fetch facts, ask the domain, commit the answer."""
