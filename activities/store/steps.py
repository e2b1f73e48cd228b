"""How long the steps of a round take."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Steps:
    """Milliseconds by step, in the order in which steps were first taken."""

    milliseconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time that this takes to a step's."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.milliseconds[name] = self.milliseconds.get(name, 0.0) + (time.perf_counter() - began) * 1000


@dataclass
class RoundTimes:
    """How long one round took, from its turn to its commit; a try that met a conflict was for nothing."""

    trigger: str
    tries: int = 0
    seconds: float = 0.0
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    """By step, of the try that was committed; what deciding is made of is named after it."""


def pass_over(_times: RoundTimes) -> None:
    """For those whom the times of rounds do not concern."""


class RoundSpan:
    """The span of a round that is under way; this one is not recorded."""

    place: str | None = None
    """Where it is, as a W3C traceparent; none where it is not kept."""

    def end(self, times: RoundTimes, concerned: Sequence[str]) -> None:
        """Record that the round has been committed, given the traces of those whom it concerned."""


def untraced(_trigger: str) -> RoundSpan:
    """For those who record no spans of rounds."""
    return RoundSpan()
