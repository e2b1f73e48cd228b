"""Reservations as services speak of them: capacity over a window for somebody, or nodes that nobody may use meanwhile."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StrictInt, field_validator, model_validator

from corral.api import Identifier, Model, Seconds, ShortName, ShortText

Names = Annotated[tuple[Identifier, ...], Field(max_length=256)]
Machines = Annotated[tuple[ShortName, ...], Field(max_length=1_000)]

LONGEST_NOTICE_SECONDS = 600

EPOCH_YEAR, LAST_YEAR = 1970, 8_999
"""In which a window may begin, so that whatever is added to it is still a time."""


class Purpose(StrEnum):
    """What the nodes are kept for: work of somebody, or something that needs them empty."""

    CAPACITY = "capacity"
    MAINTENANCE = "maintenance"


class Lending(StrEnum):
    """Until when others may use what is kept, if they can be told to leave: until the window opens, or until it is wanted.

    What is lent until it is wanted is lent within the window too: work that it is for and that finds no other room has
    those leave who are in its way, and starts when their notice is over.
    """

    UNTIL_OPEN = "until-open"
    UNTIL_WANTED = "until-wanted"


class ReservationSpec(Model):
    """What is asked: so many `accelerators` of a SKU for `seconds` from `start` on, for queues, tenants or named workloads.

    Whoever is of one of the queues (or below it), of one of the tenants, or named may use them. All of them are in one region
    of one provider, on whole nodes; regions, providers and clusters narrow the choice. `maintenance` names nodes or clusters
    instead, which are empty for as long.

    What is lent until it is wanted is lent to work that is gone `notice_seconds` after it is told, at most.

    A `start` without an offset is what clocks show in `time_zone`. The window opens up to `flexible_seconds` later where
    capacity is there only then. With a `recurrence` (an RRULE of RFC 5545 that goes by days or more) there is a window at
    each of its times.
    """

    id: Identifier
    start: datetime
    seconds: Annotated[Seconds, Field(ge=60)]
    purpose: Purpose = Purpose.CAPACITY
    accelerators: Annotated[StrictInt, Field(ge=1, le=10**6)] | None = None
    sku: Identifier | None = None
    regions: Names = ()
    providers: Names = ()
    clusters: Machines = ()
    nodes: Machines = ()
    queues: Names = ()
    tenants: Names = ()
    workloads: Names = ()
    lent: Lending = Lending.UNTIL_OPEN
    notice_seconds: Seconds = LONGEST_NOTICE_SECONDS
    flexible_seconds: Seconds = 0
    time_zone: ShortName = "UTC"
    recurrence: ShortText | None = None
    reason: ShortText = ""

    @field_validator("start")
    @classmethod
    def _within_calendars(cls, start: datetime) -> datetime:
        _need(EPOCH_YEAR <= start.year <= LAST_YEAR, f"expected a year from {EPOCH_YEAR} to {LAST_YEAR}")
        return start

    @model_validator(mode="after")
    def _fits_its_purpose(self) -> Self:
        if self.purpose is Purpose.CAPACITY:
            _need(self.accelerators is not None and self.sku is not None, "capacity: give accelerators and their sku")
            _need(
                bool(self.queues or self.tenants or self.workloads), "capacity: say for whom, by queues, tenants or workloads"
            )
            is_asked = self.lent is Lending.UNTIL_WANTED or self.notice_seconds == LONGEST_NOTICE_SECONDS
            _need(
                is_asked, f"notice_seconds: it bounds the notice of guests; say lent: {Lending.UNTIL_WANTED}, or leave it out"
            )
            _need(not self.nodes, "capacity: which nodes are kept is chosen; nodes are named for maintenance only")
        else:
            _need(bool(self.nodes or self.clusters), "maintenance: name the nodes or the clusters")
            unused = {"accelerators": self.accelerators, "sku": self.sku, "queues": self.queues, "tenants": self.tenants}
            named = [name for name, value in (unused | {"workloads": self.workloads}).items() if value]
            _need(not named, f"maintenance: nobody works there; leave out {', '.join(named)}")
            is_lent = self.lent is Lending.UNTIL_WANTED or self.notice_seconds != LONGEST_NOTICE_SECONDS
            _need(not is_lent, "maintenance: nobody works there; leave out lent and notice_seconds")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the spec in canonical JSON, in hexadecimal: two specs are the same when their digests are.

        How it is lent is left out at the default: specs that were written before there was a choice keep their digest.
        """
        left_out = {"lent", "notice_seconds"} if self.lent is Lending.UNTIL_OPEN else set[str]()
        return hashlib.sha256(self.model_dump_json(exclude=left_out).encode()).hexdigest()

    @property
    def summary(self) -> str:
        """One line by which an operator recognises the reservation."""
        if self.purpose is Purpose.MAINTENANCE:
            return f"{self.id}: maintenance of {', '.join((*self.nodes, *self.clusters)[:3])}"
        whom = ", ".join((*self.queues, *self.tenants, *self.workloads)[:3])
        return f"{self.id}: {self.accelerators} {self.sku} for {whom}"


def _need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


class ReservationState(StrEnum):
    """Where a reservation stands: its next window is ahead, or under way, or there is none any more."""

    PLANNED = "planned"
    OPEN = "open"
    ENDED = "ended"
    CANCELLED = "cancelled"
    REFUSED = "refused"

    @property
    def is_over(self) -> bool:
        """Nothing is kept for it any more."""
        return self not in {ReservationState.PLANNED, ReservationState.OPEN}


class MissKind(StrEnum):
    """Why a window lacks capacity: the closed list behind the words."""

    WORK_STAYS = "work-stays"
    """Work of others is there that may not be stopped for it, or had not left at the opening."""
    TOO_FEW_NODES = "too-few-nodes"
    LOAN_IS_LATE = "loan-is-late"
    """Somebody whom it is for waits for longer than the notice of those to whom it was lent."""
    NOT_PLANNED = "not-planned"
    """No round was decided while the window was open, or none until long after it should have been."""


class Miss(Model):
    """A window that lacked capacity: how many accelerators were missing, why, and when they had come.

    It opened without them or too late, or did not get them back in time from those to whom they were lent.
    """

    opens_at: datetime
    at: datetime
    missing: float
    kind: MissKind
    cause: str
    made_good_at: datetime | None = None


class ReservationStatus(Model):
    """What is so. The window is the present or next one, or the last; `kept` is accelerators by node.

    `missing` accelerators are short for this window as things stand, for the reason given in `cause`.
    """

    id: str
    state: ReservationState
    spec: ReservationSpec
    opens_at: datetime | None = None
    closes_at: datetime | None = None
    windows: int = 0
    """How many windows there have been, this one counted."""
    kept: Mapping[str, int] = {}
    missing: float = 0
    cause: str = ""
    lent: float = 0
    """Accelerators that others use now, in the open window, until they are wanted."""
    lent_accelerator_seconds: float = 0
    """The same summed up over all windows so far."""
    misses: tuple[Miss, ...] = ()


class Extend(Model):
    """Let the present or next window end so much later."""

    seconds: Annotated[Seconds, Field(ge=1)]


class ReservationAnswer(Model):
    """The answer to a change: the state after it, when the window ends, and what was done in words."""

    state: ReservationState
    closes_at: datetime | None = None
    message: str
