"""What activities tell workflows: small frozen values, never a spec or a snapshot."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic.dataclasses import dataclass

from corral.api import Fix, FixSearch, Outcome, Reason, State, Target
from corral.reservation import ReservationState
from domain.pool.lifecycle import Leave


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a workload stands in the record, as far as its workflow must know.

    `version` rises with every change: of two standings the higher version is so, whatever the order of their arrival.
    `next_place` is where the workload goes on once it has left the place that it has.
    `runtime_left` is in seconds of the wall, and none where the runtime is not limited.
    `notice` is the number of the last notice to leave that the attempt has had: in force while it is to stop, else taken back.
    `leave` is how far it has come on its way out.
    """

    workload: str
    version: int
    state: State
    epoch: int
    provider: str | None = None
    region: str | None = None
    sku: str | None = None
    place: str = ""
    next_place: str = ""
    reason: Reason | None = None
    message: str = ""
    fixes: tuple[Fix, ...] = ()
    fix_search: FixSearch | None = None
    outcome: Outcome | None = None
    exit_code: int | None = None
    runtime_left: float | None = None
    notice: int = 0
    leave: Leave | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """A standing that a workload's workflow has not been told yet; `id` is its place in the outbox.

    `trace` is the one in which the workload was submitted, and `round` the span of the round that decided so, as W3C
    traceparents; none where that is not traced.
    """

    id: int
    standing: Standing
    trace: str | None = None
    round: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptKey:
    """One attempt to run a workload."""

    workload: str
    epoch: int


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """An attempt that has been sent to its provider and has not ended in the record. `clusters` are as `region/cluster`."""

    id: str
    key: AttemptKey
    has_run: bool
    is_leaving: bool = False
    clusters: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Unreleased:
    """An attempt that was lost with a cluster, and may still be known in this one of those it ran in (`region/cluster`)."""

    attempt: str
    epoch: int
    cluster: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a provider's clusters: how many are what, in words, and whether that is new."""

    words: str
    is_news: bool


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A change asked for by somebody; `key` is the same when it is asked again."""

    workload: str
    key: str
    reason: str = ""
    priority: int | None = None
    group: str | None = None
    count: int | None = None
    minimum: int | None = None
    demand: float | None = None
    at: datetime | None = None
    requests: int = 0
    bad: int = 0
    targets: tuple[Target, ...] | None = None
    move: bool = False
    seconds: int = 0


@dataclass(frozen=True, slots=True)
class AdmissionOrder:
    """A workload as its workflow was started: the spec as it came, checked by nobody yet.

    `workflow` is the id of that; orders of workers that did not tell it have none.
    """

    workload: str
    spec: Any
    workflow: str | None = None


@dataclass(frozen=True, slots=True)
class Adjusted:
    """What came of a change that somebody asked for."""

    message: str
    standing: Standing


@dataclass(frozen=True, slots=True)
class ReservationOrder:
    """A reservation as its workflow was started, likewise."""

    reservation: str
    spec: Any
    workflow: str | None = None


@dataclass(frozen=True, slots=True)
class ReservationChange:
    """A change of a reservation asked for by somebody; `key` is the same when it is asked again. Seconds are the pool's."""

    reservation: str
    key: str
    seconds: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReservationStanding:
    """How a reservation stands. `next_in` is for how many seconds of the wall time alone changes nothing about it."""

    reservation: str
    state: ReservationState
    opens_at: datetime | None = None
    closes_at: datetime | None = None
    windows: int = 0
    missing: float = 0
    message: str = ""
    next_in: float | None = None


@dataclass(frozen=True, slots=True)
class RoundsDone:
    """What a stretch of planning did."""

    rounds: int = 0
    told: int = 0
    quality: str = ""
    """How good the last plan was, in words."""


class StepKind(StrEnum):
    """What a provider is asked for the fleet's growth."""

    ASK = "ask"
    ABANDON = "abandon"
    GIVE_BACK = "give-back"


@dataclass(frozen=True, slots=True)
class FleetStep:
    """One thing to ask a provider: of an order (by its id) that it begins or ends, or of nodes that it takes away."""

    kind: StepKind
    provider: str
    subjects: tuple[str, ...]

    @property
    def in_words(self) -> str:
        """One line for a person."""
        named = ", ".join(self.subjects[:5]) + (" and others" if len(self.subjects) > 5 else "")
        return f"{self.kind.replace('-', ' ')} {named}"
