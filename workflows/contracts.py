"""Signals that workflows get from activities, and what a workload's workflow hands to its next run."""

from dataclasses import dataclass
from enum import StrEnum

from activities.answers import Standing


class Signal(StrEnum):
    """What a workload's workflow is told."""

    STANDING = "standing"


@dataclass(frozen=True, slots=True)
class HandOver:
    """What a run of a workload's workflow leaves to the next: nothing that it knows is lost in between."""

    standing: Standing
    noticed_epoch: int
