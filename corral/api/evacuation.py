"""Evacuations as operators speak of them: what is to be emptied, how far it is, and what it would do."""

import hashlib
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field, StrictInt, StringConstraints

from corral.api.explanation import Reason
from corral.api.fleet import Place, PlaceKind
from corral.api.model import HOUR_SECONDS, MAXIMUM_SECONDS, Identifier, Model, ShortName, ShortText
from corral.api.operation import OperationNote
from corral.api.workload import SlaTier


class EvacuationOrder(Model):
    """Empty a node, a cluster or a region of a provider: nothing new goes there, and what is there moves elsewhere.

    Work of the lowest tier goes first, and at most `at_once` workloads are on their way out at a time. The deadline is in
    seconds of the pool from the beginning.
    """

    id: Identifier
    kind: PlaceKind
    place: Place
    reason: Annotated[ShortText, StringConstraints(min_length=1)]
    who: Annotated[ShortName, StringConstraints(min_length=1)]
    deadline_seconds: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_SECONDS)] = 4 * HOUR_SECONDS
    at_once: Annotated[StrictInt, Field(ge=1, le=1_000)] = 10

    @property
    def deadline(self) -> timedelta:
        """How long it may take."""
        return timedelta(seconds=self.deadline_seconds)

    @property
    def digest(self) -> str:
        """The same for the same order."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class EvacuationState(StrEnum):
    """How far an evacuation is."""

    AWAITING = "awaiting-approval"
    """Somebody has to approve it first; nothing is changed before."""
    MOVING = "moving"
    PAUSED = "paused"
    """Nobody else is told to leave; nothing new goes there all the same."""
    DONE = "done"
    """Nothing is there any more, as observed."""
    OVERDUE = "overdue"
    """Its deadline came while something was still there."""
    ABORTED = "aborted"
    REJECTED = "rejected"
    EXPIRED = "expired"
    """Nobody has approved it in time."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it."""
        return self not in {EvacuationState.AWAITING, EvacuationState.MOVING, EvacuationState.PAUSED}


class EvacuationStatus(Model):
    """How an evacuation stands; a higher version is newer.

    `left` workloads are still there, of which `leaving` have notice; `told` were told to leave so far. `remaining` names the
    first of those that are left. One that has to be approved says in `needs` why, and has its `deadline` for that first.
    """

    order: EvacuationOrder
    state: EvacuationState
    version: int
    began_at: AwareDatetime
    deadline: AwareDatetime
    ended_at: AwareDatetime | None = None
    nodes: int
    told: int
    left: int
    leaving: int
    remaining: tuple[str, ...] = ()
    needs: str = ""
    trail: tuple[OperationNote, ...] = ()


class EvacuationMove(Model):
    """A workload that would have to leave, and what would become of it: where it would start, or why it would wait."""

    workload: str
    queue: str
    tier: SlaTier
    accelerators: float
    to: str = ""
    stops: int = 0
    """How many other workloads would have to leave for it."""
    reason: Reason | None = None
    message: str = ""


class EvacuationForecast(Model):
    """What an evacuation would do to the pool as it is now."""

    nodes: int
    moves: tuple[EvacuationMove, ...]
