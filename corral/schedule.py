"""Schedules as services speak of them: an operation that is ordered again and again, by the clocks of a place."""

from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import AwareDatetime, Field, StrictInt, StringConstraints, model_validator

from corral.api import (
    HOUR_SECONDS,
    MAXIMUM_SECONDS,
    EvacuationOrder,
    Identifier,
    Model,
    Place,
    PlaceKind,
    ShortName,
    ShortText,
    Time,
)
from corral.rollout import WATCHED_SECONDS, Change, Conditions, RolloutOrder, digest_of

MOST_CHARACTERS = 80
"""Of a schedule's name: with the time it is the id of an operation."""

AS_IN_ID = "%Y%m%d-%H%M%S"
NOW_IN_ID = "now"
"""In the id of what is ordered out of turn, so that it is never that of a time of its schedule."""


class RecurringEvacuation(Model):
    """What is emptied each time: see `EvacuationOrder`."""

    kind: PlaceKind
    place: Place
    deadline_seconds: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_SECONDS)] = 4 * HOUR_SECONDS
    at_once: Annotated[StrictInt, Field(ge=1, le=1_000)] = 10


class RecurringRollout(Change):
    """What is put in force each time, and how it is watched: see `RolloutOrder`."""

    watch_seconds: Annotated[StrictInt, Field(ge=0, le=MAXIMUM_SECONDS)] = WATCHED_SECONDS
    conditions: Conditions = Conditions()


class ScheduleSpec(Model):
    """An operation that is ordered at each time of a cron expression, unless the last one of it is still under way.

    The clocks are those of the wall in `time_zone`. What would be done by then is found out then: there is no token. A time at
    which Temporal was away is made up for up to `late_seconds` later, and missed after that.
    Whoever signs it gives a mandate: it is ordered for them at each of these times, in that `pool`, and after `until` no more.
    """

    id: Annotated[Identifier, StringConstraints(max_length=MOST_CHARACTERS)]
    cron: Annotated[ShortName, StringConstraints(min_length=1)]
    time_zone: ShortName = "UTC"
    reason: Annotated[ShortText, StringConstraints(min_length=1)]
    who: Annotated[ShortName, StringConstraints(min_length=1)]
    until: Time | None = None
    late_seconds: Annotated[StrictInt, Field(ge=10, le=MAXIMUM_SECONDS)] = 24 * HOUR_SECONDS
    pool: ShortName | None = None
    evacuate: RecurringEvacuation | None = None
    roll_out: RecurringRollout | None = None

    @model_validator(mode="after")
    def _does_one_thing(self) -> Self:
        if (self.evacuate is None) == (self.roll_out is None):
            raise ValueError("expected either evacuate or roll_out, not both")
        return self

    @property
    def subject(self) -> str:
        """What it is about, on one line."""
        if self.evacuate is not None:
            return f"evacuate {self.evacuate.kind} {self.evacuate.place}"
        return f"roll out {self.roll_out.subject}" if self.roll_out else ""

    @property
    def digest(self) -> str:
        """The same for the same schedule."""
        return digest_of(self.model_dump(mode="json", exclude_defaults=True))

    @property
    def mandate(self) -> str:
        """The id of the mandate that whoever signs it gives: the same for the same schedule."""
        return f"{self.id}-{self.digest[:12]}"

    def order_at(self, due_at: datetime) -> EvacuationOrder | RolloutOrder:
        """What is ordered at a time, to the second, under an id that says when."""
        return self.order(f"{self.id}-{due_at.astimezone(UTC):{AS_IN_ID}}")

    def order_now(self, at: datetime, *, who: str, reason: str = "") -> EvacuationOrder | RolloutOrder:
        """What is ordered out of turn, by somebody in their own name and right; without a reason, for that of the schedule."""
        order = self.order(f"{self.id}-{NOW_IN_ID}-{at.astimezone(UTC):{AS_IN_ID}}")
        return order.model_copy(update={"who": who} | ({"reason": reason} if reason else {}))

    def due_at(self, id: str) -> datetime | None:
        """The time for which the order of that id is, or none where it is no order of this schedule."""
        try:
            return datetime.strptime(id, f"{self.id}-{AS_IN_ID}").replace(tzinfo=UTC)
        except ValueError:
            return None

    def order(self, id: str) -> EvacuationOrder | RolloutOrder:
        """What is ordered, under an id of its own."""
        if (place := self.evacuate) is not None:
            return EvacuationOrder(id=id, reason=self.reason, who=self.who, **place.model_dump())
        assert self.roll_out is not None, "a schedule does one of the two"
        change = Change(policy=self.roll_out.policy, queues=self.roll_out.queues)
        return RolloutOrder(
            id=id,
            change=change,
            reason=self.reason,
            who=self.who,
            watch_seconds=self.roll_out.watch_seconds,
            conditions=self.roll_out.conditions,
        )


class ScheduleStatus(Model):
    """A schedule as Temporal keeps it, when it is due next, and what became of each of its times so far.

    At so many it was `ordered`, at so many `left_out` as the last one was still under way, and so many were `missed`: Temporal
    was away, and came back too late.
    """

    id: str
    subject: str
    cron: str
    time_zone: str
    who: str
    reason: str
    until: AwareDatetime | None = None
    mandate: str | None = None
    next_at: AwareDatetime | None = None
    last_at: AwareDatetime | None = None
    ordered: int = 0
    left_out: int = 0
    missed: int = 0


class Revocation(Model):
    """Take back a mandate, or all that were given for a schedule, so that nothing is ordered by it any more."""

    mandate: Identifier | None = None
    schedule: Identifier | None = None
    who: ShortName = ""
    reason: Annotated[ShortText, StringConstraints(min_length=1)]

    @model_validator(mode="after")
    def _is_about_one(self) -> Self:
        if (self.mandate is None) == (self.schedule is None):
            raise ValueError("expected either mandate or schedule, not both")
        return self


class MandateStatus(Model):
    """A mandate: who signed what for a schedule, until when, the last time it was used for, and who revoked it and why."""

    id: str
    schedule: str
    subject: str
    principal: str
    signed_at: AwareDatetime
    until: AwareDatetime
    last_due_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None
    revoked_by: str = ""
    revoked_because: str = ""
