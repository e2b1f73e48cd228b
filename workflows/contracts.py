"""Signals that workflows get from activities, and what a workload's workflow hands to its next run."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from activities.answers import Standing
from corral.api import Moment


class Signal(StrEnum):
    """What a workload's workflow is told."""

    STANDING = "standing"


@dataclass(frozen=True, slots=True)
class HandOver:
    """What a run of a workload's workflow leaves to the next: nothing that it knows is lost in between."""

    standing: Standing
    noticed_epoch: int
    noticed: int = 0
    """The number of the last notice that the attempt of that epoch was given."""
    urged: bool = False
    """Whether it was to be stopped at once."""
    kept: int = 0
    """The number of the last notice that it was told to forget."""
    since: datetime | None = None
    """When the present state was entered, as far as known."""
    history: tuple[Moment, ...] = ()
    """The last changes of state, oldest first."""
    why_cancelled: str = ""
    """What was said by whoever cancelled it."""
