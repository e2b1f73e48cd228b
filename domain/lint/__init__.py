"""Lint: what is wrong with a policy and a tree of queues that are valid by themselves."""
