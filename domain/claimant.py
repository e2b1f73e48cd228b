"""Claimants: whoever asks for capacity or has some."""

from typing import Protocol

from corral.api import WorkloadTerms


class Claimant(Protocol):
    """A workload, by its id, with what it asks for, which it may share with all who ask for the same."""

    @property
    def id(self) -> str:
        """Of the workload."""

    @property
    def spec(self) -> WorkloadTerms:
        """What it asks for, but for who it is."""
