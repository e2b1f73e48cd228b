"""Claimants: whoever asks for capacity or has some, and what is asked for as something to look up by."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar
from weakref import ref

from corral.api import WorkloadTerms

Value = TypeVar("Value")


class Claimant(Protocol):
    """A workload, by its id, with what it asks for, which it may share with all who ask for the same."""

    @property
    def id(self) -> str:
        """Of the workload."""

    @property
    def spec(self) -> WorkloadTerms:
        """What it asks for, but for who it is."""


def by_terms(work: Iterable[Claimant]) -> Iterator[tuple[WorkloadTerms, int]]:
    """What these ask for, and how many of them in the same terms: once for all who share them."""
    every = [each.spec for each in work]
    numbers = Counter(map(id, every))
    return ((terms, numbers[at]) for at, terms in {id(each): each for each in every}.items())


class OfTerms(Generic[Value]):
    """What is worked out of terms, at once however long they are: by the object alone, and for as long as it is there."""

    def __init__(self, work_out: Callable[[WorkloadTerms], Value]) -> None:
        """Work it out by this; what it answers must not hold the terms, or they would stay for ever."""
        self._work_out = work_out
        self._known: dict[int, tuple[ref[WorkloadTerms], Value]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __call__(self, terms: WorkloadTerms) -> Value:
        """The same for all who share the terms."""
        at = id(terms)
        if (known := self._known.get(at)) is None:
            # Called before anything else can be where the terms were.
            terms_are_gone = ref(terms, lambda _: self._known.pop(at, None))
            known = self._known[at] = terms_are_gone, self._work_out(terms)
        return known[1]
