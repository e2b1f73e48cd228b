"""Schedules as services speak of them: an operation that is ordered again and again, by the clocks of a place."""

from typing import Annotated, Self

from pydantic import AwareDatetime, Field, StrictInt, StringConstraints, model_validator

from corral.evacuation import EvacuationOrder
from corral.fleet import Place, PlaceKind
from corral.model import HOUR_SECONDS, MAXIMUM_SECONDS, Identifier, Model, ShortName, ShortText
from corral.rollout import WATCHED_SECONDS, Change, Conditions, RolloutOrder

MOST_CHARACTERS = 80
"""Of a schedule's name: with the time it is the id of an operation."""


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

    The clocks are those of the wall in `time_zone`. What would be done by then is found out then: there is no token.
    """

    id: Annotated[Identifier, StringConstraints(max_length=MOST_CHARACTERS)]
    cron: Annotated[ShortName, StringConstraints(min_length=1)]
    time_zone: ShortName = "UTC"
    reason: Annotated[ShortText, StringConstraints(min_length=1)]
    who: Annotated[ShortName, StringConstraints(min_length=1)]
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
    """A schedule as Temporal keeps it, and when it is due next."""

    id: str
    subject: str
    cron: str
    time_zone: str
    who: str
    reason: str
    next_at: AwareDatetime | None = None
    last_at: AwareDatetime | None = None
