"""Elasticity: how many replicas the demand for an endpoint asks for, and how many nodes the demand for the pool."""
