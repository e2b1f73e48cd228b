"""Claimants: whoever asks for capacity or has some, and what is asked for as something to look up by."""

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


class SameTerms:
    """Terms as something to look up by, at once however long they are: equal to the same object alone, which it keeps."""

    __slots__ = ("terms",)

    def __init__(self, terms: WorkloadTerms) -> None:
        self.terms = terms

    def __hash__(self) -> int:
        return id(self.terms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameTerms) and self.terms is other.terms
