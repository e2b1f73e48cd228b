"""Operations of any kind: what operators order that takes its time, and how it is steered."""

from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, StringConstraints

from corral.api.model import Model, ShortName, ShortText


class OperationKind(StrEnum):
    """What operators order that takes its time."""

    EVACUATION = "evacuation"
    POLICY = "policy-roll-out"
    QUEUES = "queue-edit"


class OperationChange(Model):
    """Steer an operation: who asks for it, and why."""

    who: Annotated[ShortName, StringConstraints(min_length=1)]
    reason: Annotated[ShortText, StringConstraints(min_length=1)]


class OperationNote(Model):
    """A line of the trail of an operation: the state it came to, by whose order, and why. Without `who` it came by itself."""

    at: AwareDatetime
    state: str
    who: str = ""
    reason: str = ""


class OperationStatus(Model):
    """An operation of any kind as the record keeps it: by whom and why, how far it is in words, and all that happened.

    Until `due_at` it has to be approved, or has time, or is watched.
    """

    id: str
    kind: OperationKind
    subject: str
    state: str
    version: int
    who: str
    reason: str
    began_at: AwareDatetime
    due_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    message: str = ""
    trail: tuple[OperationNote, ...] = ()
