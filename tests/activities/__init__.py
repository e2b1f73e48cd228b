"""Tests of the activities and of what they reach the world by."""
