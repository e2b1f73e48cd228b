"""Grades: how well a SKU answers a request for quota, and which of two answers a queue prefers (Kueue, fungibility)."""

from enum import IntEnum
from typing import NamedTuple

from corral.api import Fungibility, FungibilityPreference, Search


class Mode(IntEnum):
    """How quota can be had, from worst to best."""

    NO_FIT = 0
    NO_CANDIDATES = 1
    """Others would have to give it back, and nobody may be made to."""
    PREEMPT = 2
    """Work of the same queue, at least, must leave."""
    RECLAIM = 3
    """Only work of other queues must leave."""
    FIT = 4


class Grade(NamedTuple):
    """How quota can be had, and how far from home it comes: 0 is the queue's own."""

    mode: Mode
    level: int


def is_preferred(grade: Grade, other: Grade, fungibility: Fungibility) -> bool:
    """Whether the first is strictly better: one that works before one that does not, then as the queue prefers."""
    if Mode.NO_FIT in (grade.mode, other.mode):
        return grade.mode is not Mode.NO_FIT
    if (grade.mode is Mode.NO_CANDIDATES) != (other.mode is Mode.NO_CANDIDATES):
        return other.mode is Mode.NO_CANDIDATES
    if fungibility.preference is FungibilityPreference.PREEMPTION_OVER_BORROWING:
        return (-grade.level, grade.mode) > (-other.level, other.mode)
    return (grade.mode, -grade.level) > (other.mode, -other.level)


def ends_search(grade: Grade, fungibility: Fungibility) -> bool:
    """Whether the SKUs after one of this grade are not tried."""
    if grade.mode in (Mode.NO_FIT, Mode.NO_CANDIDATES):
        return False
    if grade.mode is not Mode.FIT and fungibility.when_can_preempt is Search.TRY_NEXT:
        return False
    return grade.level == 0 or fungibility.when_can_borrow is Search.STOP
